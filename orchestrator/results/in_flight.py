"""Attempts under way, kept in the run's folder so that a kill costs seconds of work and not minutes.

Owns: DIR/in_flight/ROW.safetensors, one file an open text. Must not know: what a checkpoint holds, the queue.

A file is only ever a head start: one that is torn, foreign or missing means that its text starts over. So a store that
refuses one ends nothing: it is told, and the next checkpoint is the next try.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from engine.checkpoint import from_bytes
from engine.slots import Job
from engine.target import Target
from orchestrator.console.errors import StorageError
from orchestrator.storage import open_storage
from orchestrator.storage.location import Location

FOLDER = "in_flight"

MAX_BYTES = 64 << 20
"""Largest checkpoint worth keeping; a network as parameterisation of a large model would be many times that."""


class InFlight:
    """The checkpoints of one run folder. It looks once for what an earlier call left there.

    Args:
        folder: the run's folder.
        on_failure: told why something could not be written or taken away, at every try.
    """

    def __init__(self, folder: Location, on_failure: Callable[[Exception], None] = lambda _: None):
        self._storage = open_storage(folder)
        self._names = set(self._storage.names(FOLDER))
        self._on_failure = on_failure

    def keep(self, checkpoints: Mapping[int, bytes]) -> None:
        """Keep checkpoints by row, each in place of the one before."""
        kept = {_name(row): content for row, content in checkpoints.items() if len(content) <= MAX_BYTES}
        self._names |= kept.keys()  # some may be there even where not all could be written
        with self._trying():
            self._storage.replace({f"{FOLDER}/{name}": content for name, content in kept.items()})

    def recall(self, row: int, target: Target) -> tuple[Job, bytes] | None:
        """The attempt at a row's text and its checkpoint, if there is a sound one of this very text."""
        content = self._storage.read(f"{FOLDER}/{_name(row)}") if _name(row) in self._names else None
        if content is None or len(content) > MAX_BYTES:
            return None
        checkpoint = from_bytes(content, target)
        return None if checkpoint is None else (checkpoint.job, content)

    def forget(self, rows: Iterable[int]) -> None:
        """Drop the checkpoints of rows that have their result."""
        dropped = {_name(row) for row in rows} & self._names
        with self._trying() as failures:
            self._storage.delete(f"{FOLDER}/{name}" for name in dropped)
        if not failures:
            self._names -= dropped

    def clear(self) -> None:
        """Drop everything: the run is finished."""
        with self._trying():
            self._storage.clear(FOLDER)
        self._names.clear()

    @contextmanager
    def _trying(self) -> Iterator[list[Exception]]:
        """What went wrong inside is told, and given back."""
        failures: list[Exception] = []
        try:
            yield failures
        except (OSError, StorageError) as error:
            failures.append(error)
            self._on_failure(error)


def _name(row: int) -> str:
    return f"{row}.safetensors"
