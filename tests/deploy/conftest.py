"""Fixtures of the deployment files' tests: where they are, the command line, what is quoted of it."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.orchestrator.conftest import Outcome, call
from tune_spaces.cli import app

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def verbatim(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The command line, called at the checkout's root."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return call


def quoted_commands(text: str) -> list[str]:
    """Every `verbatim VERB ...` that stands in a text as a command: on a line of its own, or in a comment."""
    joined = re.sub(r"\s*\\\n[\s#]*", " ", text)
    command = (
        r"^[\s#>$-]*(?:entrypoint: |.* -- |[A-Z_]+=\S+ |docker run .* verbatim |\S*/)*(verbatim [a-z]+(?: [^`#\n]*)?)"
    )
    return [match.strip() for match in re.findall(command, joined, flags=re.MULTILINE)]


def parse(command: str) -> dict[str, Any]:
    """What our command line makes of a command; raises its usage error where it refuses."""
    _, verb, *arguments = shlex.split(command)
    group: Any = typer.main.get_command(app)
    with group.commands[verb].make_context(verb, arguments) as context:
        return dict(context.params)
