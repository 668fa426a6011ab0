"""A run's folder in an object store.

Owns: names under a URI, the manifest as a sequence of objects. Must not know: rows.

    URI/results/part-00000-3f9c1a2b.parquet ...   a name of its own for each try, so none is ever overwritten
    URI/manifest/00000000.json ...                one object a committed part, created only where there is none

Creating the object of a number is the commit, and the store lets one process alone create it. Whoever still writes
after another has taken over, as after a long pause, learns it from its next commit and stops; no line names its part.
An object appears whole, so nothing is renamed.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress

import pyarrow as pa
from pyarrow.fs import FSSpecHandler, PyFileSystem

from orchestrator.console.errors import StorageError, Superseded, UserError
from orchestrator.storage import lease
from orchestrator.storage.location import EXTRAS, asking, connect, protocol_of
from orchestrator.storage.protocol import RESULTS, Write

MANIFEST = "manifest"

READ_AT_ONCE = 256
"""Lines of the manifest that are asked for together. Assumption: hides the store's latency, bounds the memory."""


class ObjectStore:
    """What lies under one URI.

    Args:
        uri: in a store whose fsspec package has the server refuse to create what is there. fsspec's own fallback
            looks first and writes then, which two processes may do at once; hence the list of protocols.
    Raises:
        UserError: of any other store, or where its package is not installed.
    """

    def __init__(self, uri: str):
        if protocol_of(uri) not in EXTRAS:
            raise UserError(
                f"{uri}: a run cannot be kept there, nothing would keep two runs apart; "
                f"give a folder, or a URI that begins with {', '.join(sorted(EXTRAS))}"
            )
        if set(uri) & set("*?[]"):
            raise UserError(f"{uri}: has a character of a pattern in it; choose a name without * ? [ ]")
        self._uri = uri
        self._store, self._root = connect(uri)
        self.manifest = self.at(MANIFEST)

    def at(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def names(self, folder: str = "") -> list[str]:
        path = self._path(folder).rstrip("/")
        found: list[str] = []
        with asking(self._uri), suppress(FileNotFoundError):
            found = self._store.ls(path, detail=False)
        names = (entry.rstrip("/").removeprefix(f"{path}/") for entry in found)
        return [name for name in names if name != path]

    def read(self, name: str) -> bytes | None:
        with asking(self._uri), suppress(FileNotFoundError):
            return self._store.cat_file(self._path(name))
        return None

    def open(self, name: str) -> pa.NativeFile:
        return PyFileSystem(FSSpecHandler(self._store)).open_input_file(self._path(name))

    def replace(self, files: Mapping[str, bytes]) -> None:
        with asking(self._uri):
            self._store.pipe({self._path(name): content for name, content in files.items()})

    def create(self, name: str, content: bytes) -> bool:
        """Write a file where there is none; whether it is this one that is there now.

        Args:
            content: such as no other process would write. A lost answer leaves open who was first, so whatever went
                wrong is settled by a look at the file.
        """
        try:
            with asking(self._uri):
                self._store.pipe_file(self._path(name), content, mode="create")
        except StorageError:
            found = self.read(name)
            if found is None:
                raise
            return found == content
        return True

    def delete(self, names: Iterable[str]) -> None:
        if not (paths := [self._path(name) for name in names]):
            return
        with asking(self._uri):
            try:
                self._store.rm(paths)
            except FileNotFoundError:  # where some packages stop
                for path in paths:
                    with suppress(FileNotFoundError):
                        self._store.rm(path)

    def clear(self, folder: str) -> None:
        self.delete(f"{folder}/{name}" for name in self.names(folder))

    def write_part(self, number: int, write: Write, *, is_alone: bool = True) -> str:
        content = pa.BufferOutputStream()
        write(content)
        name = f"part-{number:05d}-{uuid.uuid4().hex[:8]}.parquet"
        self.replace({f"{RESULTS}/{name}": content.getvalue().to_pybytes()})
        return name

    def committed(self) -> Iterator[bytes]:
        """Raises UserError where an object is gone."""
        found = {f"{MANIFEST}/{name}" for name in self.names(MANIFEST)}
        names = [_line_name(number) for number in range(len(found))]
        if missing := sorted(set(names) - found):
            raise UserError(f"{self.at(missing[0])}: gone; restore it from a copy, or delete the folder and run again")
        for first in range(0, len(names), READ_AT_ONCE):
            paths = [self._path(name) for name in names[first : first + READ_AT_ONCE]]
            with asking(self._uri):
                lines = self._store.cat(paths)
            yield from (lines[path] for path in paths)

    def commit(self, number: int, line: bytes) -> None:
        if not self.create(_line_name(number), line):
            raise Superseded(f"{self._uri}: another run commits there; this one stops")

    def sole_writer(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        return lease.hold(self, self._uri, say, lease.LEASE_S)

    def writer(self) -> str | None:
        return lease.holder(self)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _line_name(number: int) -> str:
    return f"{MANIFEST}/{number:08d}.json"
