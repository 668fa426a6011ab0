"""Attempts under way, kept in the run's folder so that a kill costs seconds of work and not minutes.

Owns: DIR/in_flight/ROW.safetensors, one file an open text; what an earlier call left there. Must not know: what a
checkpoint holds, the queue, who writes the files.

A file is only ever a head start: one that is torn, foreign or missing means that its text starts over.
"""

from engine.checkpoint import from_bytes
from engine.slots import Job
from engine.target import Target
from orchestrator.storage import open_storage
from orchestrator.storage.location import Location

FOLDER = "in_flight"

MAX_BYTES = 64 << 20
"""Largest checkpoint worth keeping; a network as parameterisation of a large model would be many times that."""


class InFlight:
    """The checkpoints of one run folder. It looks once for what an earlier call left there.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Location):
        self.storage = open_storage(folder)
        self.left = frozenset(self.storage.names(FOLDER))

    def recall(self, row: int, target: Target) -> tuple[Job, bytes] | None:
        """The attempt at a row's text and its checkpoint, if an earlier call left a sound one of this very text."""
        name = file_of(row)
        content = self.storage.read(f"{FOLDER}/{name}") if name in self.left else None
        if content is None or len(content) > MAX_BYTES:
            return None
        checkpoint = from_bytes(content, target)
        return None if checkpoint is None else (checkpoint.job, content)


def file_of(row: int) -> str:
    """The name of a row's file within `in_flight`."""
    return f"{row}.safetensors"
