"""A search's folder: what tells it from a run's, and how it lies in an object store.

Owns: both; nothing heavy is imported here, since every `verbatim status` asks. Must not know: what is in it.

A search's study and outcomes grow line by line, which no object store does. So a search that is kept in a store works
on a copy in a temporary folder, whose files go to the store as they change; the same command on another machine begins
with what is there.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.storage import open_storage
from orchestrator.storage.location import Location, files_below, join, name_of, open_input
from orchestrator.storage.objects import ObjectStore

FILE = "tune.json"

KEEP_S = 10.0
"""Seconds between two times that changed files go to a store. Assumption: what a kill may cost."""


class Copy:
    """A search's working folder on this machine.

    Attributes:
        folder: the search's own, or a copy of what lies in a store.
    """

    def __init__(self, place: Location, folder: Path):
        self.folder = folder
        self._store = None if isinstance(place, Path) else ObjectStore(place)
        self._kept: dict[str, tuple[int, int]] = {}
        self._last_s = 0.0

    def fetch(self) -> None:
        """Bring what lies in the store."""
        if self._store is None:
            return
        uri = self._store.at("").rstrip("/")
        for name in filter(_is_content, files_below(uri) or ()):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_input(join(uri, name)) as file:
                path.write_bytes(file.read())
            self._kept[name] = _state(path)

    def keep(self, *, soon: bool = False) -> None:
        """Send what has changed to the store.

        Args:
            soon: it may wait until the last time is `KEEP_S` ago.
        """
        if self._store is None or (soon and time.monotonic() - self._last_s < KEEP_S):
            return
        for name in filter(_is_content, files_below(self.folder) or ()):
            state = _state(self.folder / name)
            if self._kept.get(name) != state:
                self._store.replace({name: (self.folder / name).read_bytes()})
                self._kept[name] = state
        self._last_s = time.monotonic()


@contextmanager
def working_copy(place: Location, say: Callable[[str], None]) -> Iterator[Copy]:
    """The folder that a search writes to; what it holds is in its place when this ends, whatever ends it.

    Raises:
        UserError: another search writes there, or the store cannot keep two apart.
    """
    if isinstance(place, Path):
        yield Copy(place, place)
        return
    with open_storage(place).sole_writer(say), _fetched(place) as copy:
        try:
            yield copy
        finally:
            copy.keep()


@contextmanager
def looked_at(place: Location) -> Iterator[Path | None]:
    """A search's folder to be read: itself, or a copy of what lies in a store; None where there is no search."""
    if isinstance(place, Path):
        yield place if (place / FILE).is_file() else None
    elif ObjectStore(place).read(FILE) is None:
        yield None
    else:
        with _fetched(place) as copy:
            yield copy.folder


@contextmanager
def _fetched(uri: str) -> Iterator[Copy]:
    with TemporaryDirectory(prefix="verbatim-search-") as folder:
        copy = Copy(uri, Path(folder) / name_of(uri).name)
        copy.folder.mkdir()
        copy.fetch()
        yield copy


def _is_content(name: str) -> bool:
    """Locks and unfinished files, whose names begin with a dot, stay where they are."""
    return not any(part.startswith(".") for part in name.split("/"))


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is written to."""
    told = path.stat()
    return told.st_size, told.st_mtime_ns
