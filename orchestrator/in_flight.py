"""Attempts under way, kept on disk so that a kill costs seconds of work and not minutes.

Owns: DIR/in_flight/ROW.safetensors, one file an open text. Must not know: what a checkpoint holds, the queue.

A file is only ever a head start: one that is torn, foreign or missing means that its text starts over. Hence no sync,
only a rename.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from engine.checkpoint import from_bytes
from engine.slots import Job
from engine.target import Target

MAX_BYTES = 64 << 20
"""Largest checkpoint worth keeping; a network as parameterisation of a large model would be many times that."""


class InFlight:
    """The checkpoints of one run folder.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path):
        self._folder = folder / "in_flight"

    def keep(self, row: int, content: bytes) -> None:
        """Keep a checkpoint in place of the one before."""
        if len(content) > MAX_BYTES:
            return
        self._folder.mkdir(exist_ok=True)
        temporary = self._folder / f".{row}.tmp"
        temporary.write_bytes(content)
        temporary.replace(self._path(row))

    def recall(self, row: int, target: Target) -> tuple[Job, bytes] | None:
        """The attempt at a row's text and its checkpoint, if there is a sound one of this very text."""
        path = self._path(row)
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        content = path.read_bytes()
        checkpoint = from_bytes(content, target)
        return None if checkpoint is None else (checkpoint.job, content)

    def forget(self, rows: Iterable[int]) -> None:
        """Drop the checkpoints of rows that have their result."""
        for row in rows:
            self._path(row).unlink(missing_ok=True)

    def clear(self) -> None:
        """Drop everything: the run is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, row: int) -> Path:
        return self._folder / f"{row}.safetensors"
