"""What a run's folder must be able to do, wherever it lies.

Owns: the promises. Must not know: rows, records, checkpoints; those who keep them give names and bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import pyarrow as pa

RESULTS = "results"
"""Where parts lie."""

Write = Callable[[pa.NativeFile], object]
"""Writes a file's content, from its beginning to its end."""


class Storage(Protocol):
    """Files by name in one folder; names have at most one `/`.

    A file is there whole or not at all. What `write_part` and `commit` have done outlives the machine; what `replace`
    has done may be lost with it.

    Attributes:
        manifest: where the committed lines lie, for messages.
    """

    manifest: str

    def at(self, name: str) -> str:
        """Where a file lies, for messages."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """What lies directly in the folder, or in a folder of it."""
        ...

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        ...

    def open(self, name: str) -> pa.NativeFile:
        """A file to be read in pieces.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def replace(self, files: Mapping[str, bytes]) -> None:
        """Write files, each in place of the one before."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Take files away; those that are not there are no error."""
        ...

    def clear(self, folder: str) -> None:
        """Take a folder away with all that lies in it."""
        ...

    def write_part(self, number: int, write: Write, *, is_alone: bool = True) -> str:
        """Write a part of the results; it counts once a committed line names it.

        Args:
            write: writes its content; whatever that raises, no part is there.
            is_alone: no other process can be writing a part of that number, such as one whose driver was killed.
        Returns:
            its name within `results`. No part that a line names is ever overwritten.
        """
        ...

    def committed(self) -> Iterator[bytes]:
        """The committed lines, in order, few in memory at a time."""
        ...

    def commit(self, number: int, line: bytes) -> None:
        """Commit a line, the `number`-th, counted from 0.

        Raises:
            Superseded: another process has committed that one.
        """
        ...

    def sole_writer(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Hold the folder.

        Args:
            say: told what is waited for.
        Raises:
            UserError: another process holds it.
        """
        ...

    def writer(self) -> str | None:
        """Who holds the folder now, as far as can be seen from here; None if nobody does."""
        ...
