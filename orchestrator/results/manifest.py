"""The manifest of a results folder: which parts count, in which order.

Owns: what a line says, which lines stand for others. Must not know: what is in a part, where the folder lies.

    {"part": NAME, "rows": N, "ids": [...]}     a part is committed
    {"merged": NAME, "rows": N, "ids": [...]}   rows of parts above, in one part; counts for nothing by itself
    {"merged_from": NUMBER}                     the merged parts from line NUMBER on stand for all parts above them

Lines are only ever appended, and the last kind is one line: parts are merged in one step, or not at all.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.console.errors import UserError
from orchestrator.storage.protocol import Storage

PART = re.compile(r"part-(\d{5,})(-[0-9a-f]+)?\.parquet")
"""Names of parts; a manifest that names another file is not one of ours."""

CLOSING = b'{"merged_from"'

Entry = dict[str, Any]
"""A part that counts: `part`, its name; `rows`, their number; `ids`."""


class Manifest:
    """The committed lines of a folder, as often as they are asked for.

    Attributes:
        num_lines: of all kinds, when `entries` or `unneeded` was last gone through; None before.
    """

    def __init__(self, storage: Storage):
        self._storage = storage
        self.num_lines: int | None = None

    def entries(self) -> Iterator[Entry]:
        """The parts that count in order, one at a time: a long run's ids would fill the memory.

        Raises:
            UserError: a line is damaged.
        """
        first, last = self._merged()
        for number, line in self._lines():
            if first <= number < last and "merged" in line:
                yield {"part": line["merged"], "rows": line["rows"], "ids": line["ids"]}
            elif number > last and "part" in line:
                yield line

    def unneeded(self, names: Iterable[str]) -> set[str]:
        """Those of the names in the results folder that are parts, whole or half written, which will never count.

        A part is named by the line of its number or by one before it; where that line is there and names another, its
        writer or its driver died. One of a later number may be another process's, which is about to commit it.
        Merged parts at the very end are needed: another process may be about to close that merge. Once there is
        another line behind them it cannot.
        """
        counting: set[str] = set()
        merging: dict[str, int] = {}
        for number, line in self._lines():
            if "merged" in line:
                merging[line["merged"]] = number
                continue
            if "merged_from" in line:
                counting = {name for name, at in merging.items() if at >= line["merged_from"]}
            else:
                counting.add(line["part"])
            merging = {}
        assert self.num_lines is not None
        found = {name: PART.fullmatch(name.removeprefix(".").removesuffix(".tmp")) for name in names}
        parts = {name for name, match in found.items() if match and int(match[1]) < self.num_lines}
        return parts - counting - merging.keys()

    def append(self, line: Entry) -> None:
        """Commit a line after those that were last gone through.

        Raises:
            Superseded: another process has committed one since.
        """
        assert self.num_lines is not None, "the lines before it were gone through"
        self._storage.commit(self.num_lines, json.dumps(line).encode())
        self.num_lines += 1

    def count(self) -> int:
        """Go through the lines for their number alone."""
        self.num_lines = sum(1 for _ in self._storage.committed())
        return self.num_lines

    def _merged(self) -> tuple[int, int]:
        """The first of the merged lines that count, and the line that says so; (0, -1) where none does."""
        found = (0, -1)
        for number, line in enumerate(self._storage.committed()):
            if line.startswith(CLOSING):
                found = (self._parsed(line)["merged_from"], number)
        return found

    def _lines(self) -> Iterator[tuple[int, Entry]]:
        number = 0
        for number, line in enumerate(self._storage.committed(), 1):
            yield number - 1, self._parsed(line)
        self.num_lines = number

    def _parsed(self, line: bytes) -> Entry:
        try:
            return _entry(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"manifest {self._storage.manifest}: damaged ({error}); restore it from a copy, or delete the run's "
                "folder and run again"
            ) from error


def _entry(line: bytes) -> Entry:
    entry = json.loads(line)
    match entry:
        case {"part": str(part), "rows": int(), "ids": list()} if PART.fullmatch(part):
            return entry
        case {"merged": str(part), "rows": int(), "ids": list()} if PART.fullmatch(part):
            return entry
        case {"merged_from": int(number)} if number >= 0:
            return entry
    raise ValueError(f"{line[:60]!r} names no part of a run")
