"""Fixtures of the orchestrator's tests: the pocket model's tokenizer, corpora on disk, the command line in process."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from engine.frozen_lm import TokenRule
from engine.model_source import ModelSource
from orchestrator.results.ledger import SCHEMA, Ledger
from orchestrator.results.stored_prompt import stored_candidate
from tests.orchestrator.made_up import noise_like
from tune_spaces.cli import app


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


SAYINGS = {
    "door": "The old man opened the door and looked out into the rain.",
    "sea": "  The sea\nwas grey. ",
    "odd": "a [b] \x1b[31mred\x07.",
    "nothing": "",
}
"""Texts of the shared run: a plain one, one with a line break, one a terminal would act on, one that is no target."""


@pytest.fixture(scope="session")
def sayings(tmp_path_factory, write_jsonl, verbatim) -> Path:
    """Folder of a finished run over `SAYINGS`. Shared: to be left as it is."""
    folder = tmp_path_factory.mktemp("sayings")
    corpus = write_jsonl(folder / "corpus.jsonl", [{"id": id, "text": text} for id, text in SAYINGS.items()])
    settings = ("--set", "num_vectors=12", "--no-dashboard", "--engine", "hf")
    outcome = verbatim("run", corpus, "--out", folder / "run", *settings)
    assert outcome.code == 3 and "3 of 4 exact on hf" in outcome.out, outcome
    return folder / "run"


@pytest.fixture(scope="session")
def alter_row():
    """Change a row of a run: `alter_row(folder, id, key=value)`."""

    def alter(folder: Path, id: str, **changes) -> None:
        for part in (folder / "results").iterdir():
            rows = [row | changes if row["id"] == id else row for row in pq.read_table(part).to_pylist()]
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), part, write_page_checksum=True)

    return alter


@pytest.fixture
def with_noise(sayings, tmp_path, alter_row) -> Path:
    """A copy of that run in which the prompt of `door` is noise of the same norm, and was rejected."""
    folder = shutil.copytree(sayings, tmp_path / "with noise")
    prompt_KD = stored_candidate(Ledger(folder).read_id("door")).prompt_KD
    noise = noise_like(prompt_KD).ravel().tolist()
    alter_row(folder, "door", prompt=noise, exact=False, status="rejected", reason="made up")
    return folder
