"""CSV and TSV: a first line of names, then cells that are strings.

Owns: quoting, which character separates. Must not know: types; `007` stays `007`, and an empty cell is an empty text.

Programs differ in how they write a quote inside a quoted cell, and nothing in a file says how. Read the wrong way it
has characters behind a closing quote or rows of unlike length; both are refused, because a corpus must never become
another text.
"""

import csv
import re
from collections.abc import Iterator
from typing import Any

from orchestrator.corpus.rows import Complaint, Pairs
from orchestrator.corpus.text import MAX_LINE, begins_with, lines, opened

QUOTES: dict[str, dict[str, Any]] = {
    "doubled": {},
    "backslash": {"escapechar": "\\", "doublequote": False},
    "none": {"quoting": csv.QUOTE_NONE, "quotechar": None},
}
"""How a quote inside a cell is written: `""`; or `\\"`; or as it is, because no cell is quoted."""

LONE_BACKSLASH = re.compile(r'(?<!\\)\\(?![\\"])')
BACKSLASHES = re.compile(r'\\{2,}(?![\\"])')
"""Python's reader drops a backslash before anything, Spark writes one before quotes alone: a lone one is kept. Two that
no quote follows are two where Spark wrote them and one elsewhere."""

REMEDY = 'if \\" stands for a quote, give --csv-quotes backslash; if no cell is quoted, --csv-quotes none'


class CsvRows:
    """Rows of cells.

    Args:
        delimiter: between cells.
        quotes: one of `QUOTES`.
    """

    def __init__(self, delimiter: str, quotes: str):
        self._has_backslashes = quotes == "backslash"
        self._dialect = {"delimiter": delimiter, "strict": True, **QUOTES[quotes]}

    def columns_and_rows(self, source: Any) -> tuple[list[str], int]:
        records = self._records(source)
        return next(records), sum(1 for _ in records)

    def require_readable(self, source: Any, text: str | None, id: str | None) -> None:
        names = next(self._records(source))
        for name in (text, id):
            if name is not None and names.count(name) != 1:
                raise Complaint(f"{names.count(name)} columns are named {name}; there must be one")

    def pairs(self, source: Any, text: str | None, id: str | None) -> Iterator[Pairs]:
        records = self._records(source)
        names = next(records)
        at_id, at_text = (None if name is None else names.index(name) for name in (id, text))
        for record in records:
            yield [(None if at_id is None else record[at_id], None if at_text is None else record[at_text])]

    def _records(self, source: Any) -> Iterator[list[str]]:
        """The names, then the rows; empty lines are no rows."""
        csv.field_size_limit(MAX_LINE)
        with opened(source, newline="") as file:
            dialect = self._dialect | _separator(self._dialect["delimiter"], begins_with(file))
            cells = _Cells(self._prepared(lines(file)), dialect)
            names = next(cells, None)
            if names is None:
                raise Complaint("is empty; its first line must name the columns")
            yield names
            for record in cells:
                if len(record) != len(names):
                    raise cells.complaint(f"{len(record)} cells where the first line has {len(names)}")
                yield record

    def _prepared(self, lines: Iterator[str]) -> Iterator[str]:
        for number, line in enumerate(lines, 1):
            if self._has_backslashes and "\\" in line:
                if BACKSLASHES.search(line):
                    raise Complaint(
                        f"line {number} has backslashes in a row, which some programs double and some do not; "
                        "write the corpus as Parquet or JSON lines"
                    )
                line = LONE_BACKSLASH.sub(r"\\\\", line)
            yield line


def _separator(asked: str, head: str) -> dict[str, Any]:
    """Semicolons, where the names are separated by them: spreadsheets write so where numbers have decimal commas."""
    names = head.partition("\n")[0]
    return {"delimiter": ";"} if asked == "," and ";" in names and "," not in names else {}


class _Cells:
    """Records that are not empty, each of bounded length, and where the last one began."""

    def __init__(self, lines: Iterator[str], dialect: dict[str, Any]):
        self._lines = lines
        self._reader = csv.reader(self._counted(), **dialect)
        self._num_characters = self._first_line = 0
        self._row = -2  # the names are no row

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        record: list[str] = []
        self._row += 1
        while not record:
            self._num_characters, self._first_line = 0, self._reader.line_num + 1
            try:
                record = next(self._reader)
            except csv.Error as error:
                raise self.complaint(_in_words(str(error))) from error
        return record

    def complaint(self, what: str) -> Complaint:
        row = f"row {self._row}" if self._row >= 0 else "the names"
        return Complaint(f"{row}, from line {self._first_line} on: {what}; {REMEDY}")

    def _counted(self) -> Iterator[str]:
        for line in self._lines:
            self._num_characters += len(line)
            if self._num_characters > MAX_LINE:
                raise self.complaint(f"more than {MAX_LINE} characters")
            yield line


def _in_words(error: str) -> str:
    if "expected after" in error:
        return "characters after a closing quote"
    return "a quote is opened and never closed" if "unexpected end" in error else error
