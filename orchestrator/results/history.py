"""The steps of texts' attempts, kept beside the results for whoever wants to see how a text got there.

Owns: DIR/history/ROW.json, one file a commit that has any, and which texts are kept. Must not know: solvers, pages.

    {"row-3": {"steps": [0, 1, ...], "margins": "<base64>"}, ...}   a byte a token and step: engine/trajectory.py

Kept are texts that are not exact and the first of the others, both up to a bound. It is for the eye and no result: a
file that is missing or torn takes nothing from anybody.
"""

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from engine.trajectory import Trajectory
from orchestrator.console.errors import StorageError
from orchestrator.results.ledger import Row
from orchestrator.storage import open_storage
from orchestrator.storage.location import Location

FOLDER = "history"

MOST_EXACT, MOST_OTHERS = 200, 5000
"""Texts kept in one call of a run."""

MOST_TOKENS = 4096
"""Of a text that is kept."""


@dataclass
class History:
    """What is kept of the attempts of one call.

    Attributes:
        folder: of the run.
    """

    folder: Location
    _pending: dict[str, Trajectory] = field(default_factory=dict)
    _num_kept: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def add(self, trajectories: Mapping[str, Trajectory]) -> None:
        """Attempts that ended, by id; a later one of the same text takes the place of an earlier one."""
        self._pending |= trajectories

    def commit(self, rows: list[Row]) -> None:
        """Keep what is to be kept of texts that have their row, and forget the rest of them."""
        kept: dict[str, Any] = {}
        for row in rows:
            trajectory = self._pending.pop(row["id"], None)
            if trajectory is not None and self._is_wanted(row):
                margins = base64.b64encode(b"".join(trajectory.frames)).decode()
                kept[row["id"]] = {"steps": trajectory.steps, "margins": margins}
        if kept:
            with suppress(OSError, StorageError):
                open_storage(self.folder).replace({f"{FOLDER}/{rows[0]['row']:09d}.json": json.dumps(kept).encode()})

    def _is_wanted(self, row: Row) -> bool:
        is_exact = bool(row["exact"])
        if self._num_kept[is_exact] >= (MOST_EXACT if is_exact else MOST_OTHERS) or len(row["token_ids"]) > MOST_TOKENS:
            return False
        self._num_kept[is_exact] += 1
        return True


def read_history(folder: Location, lengths: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Steps and frames, by id, of the texts asked for.

    Args:
        lengths: tokens of each text, by id; what does not fit is left out.
    Returns:
        `steps`, and `frames`: for each step the eighths of its tokens' margins, a byte each; of tokens that were not
            measured (a curriculum measures prefixes) the lowest value.
    """
    storage, found = open_storage(folder), {}
    for name in storage.names(FOLDER):
        for id, told in _parsed(storage.read(f"{FOLDER}/{name}")).items():
            if id in lengths and (frames := _frames(told, lengths[id])) is not None:
                found[id] = {"steps": told["steps"], "frames": frames}
    return found


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        told = json.loads(content or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _frames(told: Any, num_tokens: int) -> list[bytes] | None:
    """One a step, of the text's length; None where they are not."""
    try:
        margins, steps = base64.b64decode(told["margins"]), told["steps"]
    except (TypeError, KeyError, ValueError):
        return None
    if not isinstance(steps, list) or len(margins) != num_tokens * len(steps):
        return None
    return [margins[n * num_tokens : (n + 1) * num_tokens] for n in range(len(steps))]
