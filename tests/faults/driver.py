"""`verbatim run` in processes that are made to be killed.

Imported by a fork server, so that many of them cost one import.
"""

import os
from pathlib import Path

import orchestrator.run.command  # noqa: F401  # what the command imports when it runs
from orchestrator.cli import app


def drive(arguments: list[str], said: Path, env: dict[str, str]) -> None:
    """The command line in this process, its output in a file."""
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(env)
    app(arguments)
