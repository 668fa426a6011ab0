"""What a reader of one format does, whatever the format.

Owns: its promises, what it may raise. Must not know: files, folders, which columns are chosen and why.
"""

import lzma
from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

Pairs = list[tuple[object, object]]
"""A batch of (id, text). Ids are strings or null, texts whatever the file holds."""

DAMAGE = (pa.ArrowException, OSError, EOFError, ValueError, RecursionError, lzma.LZMAError)
"""What the libraries raise for a file that is not what its name says."""


class Complaint(ValueError):
    """What is wrong with a file, in words that stand by themselves behind its name; the remedy included."""


class Rows(Protocol):
    """A reader; `source` is an opened file, to be read from its beginning."""

    def columns_and_rows(self, source: Any) -> tuple[list[str], int]:
        """Names of the columns, each as often as it is there, and number of rows.

        Raises:
            Complaint, one of `DAMAGE`: it cannot be read.
        """
        ...

    def require_readable(self, source: Any, text: str | None, id: str | None) -> None:
        """Refuse columns that `pairs` could not read, before any of their rows is.

        Raises:
            Complaint: the column, what is wrong with it, and the remedy.
        """
        ...

    def pairs(self, source: Any, text: str | None, id: str | None) -> Iterator[Pairs]:
        """Batches of (id, text), few rows in memory at a time; a column that is None gives nulls.

        Raises:
            Complaint, one of `DAMAGE`: it cannot be read on.
        """
        ...
