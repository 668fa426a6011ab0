"""Fixtures of the orchestrator's tests: the pocket model's tokenizer, corpora on disk, the command line in process."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.frozen_lm import ModelSource, TokenRule
from orchestrator.cli import app


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str


def call(*args: object) -> Outcome:
    """Run `verbatim ARGS` in this process; anything but an exit is the test's own failure."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def verbatim():
    """The command line: `verbatim("run", corpus, "--out", folder)`."""
    return call


@pytest.fixture(scope="session")
def tokens() -> TokenRule:
    """The pocket model's tokenizer and context."""
    return TokenRule.load(ModelSource())


@pytest.fixture(scope="session")
def write_jsonl():
    """Write rows as JSONL: `write_jsonl(path, rows)` gives the path back."""

    def write(path: Path, rows: list[dict]) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def contents():
    """Every file below a folder with its bytes, to see that nothing changed."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
