"""`progress.json`: how far a search has come, beside `tune.json`, which says what it is.

Owns: the record, its file, when it is written. Must not know: Ray, Optuna, how trials run.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from engine.strict import Strict
from orchestrator.console.errors import UserError
from orchestrator.storage import open_storage

FILE = "progress.json"

State = Literal["running", "interrupted", "finished"]


class Progress(Strict):
    """How far a search is, over all its calls.

    Attributes:
        trials: asked for by the last call.
        solvers: that it began with.
        seconds: since models were loaded.
    """

    state: State
    trials: int
    solvers: int
    started: str
    updated: str
    seconds: float


def read_progress(folder: Path) -> Progress | None:
    """The folder's, or None where there is none: a folder from before there was one, or a search that loads.

    Raises:
        UserError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Progress.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: damaged; remove it, the same `verbatim tune` goes on") from error


class Keeper:
    """Keeps a folder's progress up to date while a call of the search goes on.

    Args:
        trials: asked for.
        solvers: that the call begins with.
    """

    def __init__(self, folder: Path, trials: int, solvers: int):
        earlier = read_progress(folder)
        self._folder, self._trials, self._solvers = folder, trials, solvers
        self._started = earlier.started if earlier else _now()
        self._before = earlier.seconds if earlier else 0.0
        self._since = time.monotonic()

    def write(self, state: State) -> None:
        """Replace the file in one step."""
        progress = Progress(
            state=state,
            trials=self._trials,
            solvers=self._solvers,
            started=self._started,
            updated=_now(),
            seconds=self._before + time.monotonic() - self._since,
        )
        open_storage(self._folder).replace({FILE: (progress.model_dump_json(indent=1) + "\n").encode()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
