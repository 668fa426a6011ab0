"""A corpus, opened: its files found, its columns settled, its rows numbered.

Owns: column choice, row ids, what is told of a corpus that cannot be read. Must not know: formats, tokenizers, results.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

from orchestrator.console.errors import UserError
from orchestrator.corpus import formats
from orchestrator.corpus.parts import Part, find_parts, fingerprint_of
from orchestrator.corpus.rows import DAMAGE, Complaint, Pairs, Rows
from orchestrator.storage.location import Location, first_line, open_input

TEXT_COLUMNS = ("text", "sentence", "content", "target")
"""Columns taken for the text when none is named, in this order."""

ID_COLUMNS = ("id",)

MAX_ROWS = 100_000_000
"""Most rows of a corpus."""

LFS_POINTER = b"version https://git-lfs"

MAX_LISTED = 20
"""Columns that a message names."""


@dataclass(frozen=True)
class Reading:
    """How a corpus is to be read, as far as its user says so.

    Attributes:
        text_column: None takes the first of `TEXT_COLUMNS` that is there.
        id_column: None takes `id` where it is there, else numbers the rows.
        row_ids: number the rows whatever columns there are.
        format: None goes by endings.
        csv_quotes: how CSV and TSV write a quote inside a cell.
    """

    text_column: str | None = None
    id_column: str | None = None
    row_ids: bool = False
    format: str | None = None
    csv_quotes: str = "doubled"

    @property
    def tag(self) -> str:
        """What the texts depend on beside the files; empty where all is as usual."""
        asked = formats.asked_format(self.format)
        return (f" as {asked}" if asked else "") + (
            f" with quotes {self.csv_quotes}" if self.csv_quotes != "doubled" else ""
        )


@dataclass(frozen=True)
class CorpusRow:
    """One input row.

    Attributes:
        row: 0-based position in the corpus, in the order of its parts.
        id: the id column's value as a string, None where it is null; `row-N` where there is no id column. What is
            not valid Unicode in it is spelled out, so that results can hold it.
        text: the text column's value; anything but a string is for `make_target` to refuse.
    """

    row: int
    id: str | None
    text: object


@dataclass(frozen=True)
class Corpus:
    """An opened corpus: its columns are known, its rows are read as they are asked for.

    Attributes:
        fingerprint: another one where a file has changed, come or gone, or is read another way.
    """

    path: Location
    text_column: str
    id_column: str | None
    num_rows: int
    fingerprint: str
    parts: tuple[Part, ...]
    csv_quotes: str

    def rows(self) -> Iterator[CorpusRow]:
        """Rows in order, a batch in memory at a time.

        Raises:
            UserError: a file turns out to be damaged on the way.
        """
        row = 0
        for part in self.parts:
            reader = formats.reader(part.format, self.csv_quotes)
            try:
                for batch in _batches(part, reader, self.text_column, self.id_column):
                    for id, text in batch:
                        yield CorpusRow(row, _row_id(row, id, self.id_column), text)
                        row += 1
            except UserError:
                raise
            except Complaint as error:
                raise UserError(f"{_name(self.path, part)}: {error}") from error
            except DAMAGE as error:
                raise UserError(f"{_name(self.path, part)}: damaged after row {row} ({first_line(error)})") from error

    def digest(self, num_rows: int | None = None) -> str:
        """Of the ids and texts of the first rows in their order, whatever file they come from.

        Args:
            num_rows: None takes all.
        """
        digest = blake2b(digest_size=16)
        for row in islice(self.rows(), num_rows):
            digest.update(ascii((row.id, row.text)).encode())
        return digest.hexdigest()


def open_corpus(path: Location, reading: Reading | None = None) -> Corpus:
    """Open a corpus and settle its columns.

    Raises:
        UserError: no such file, unknown kind, not readable, no such column, no rows.
        StorageError: the store it lies in does not answer.
    """
    reading = reading or Reading()
    if reading.row_ids and reading.id_column is not None:
        raise UserError(f"--row-ids and --id-column {reading.id_column}: give one of both")
    parts = find_parts(path, formats.asked_format(reading.format), TEXT_COLUMNS)
    if reading.csv_quotes != "doubled" and not any(part.format in ("csv", "tsv") for part in parts):
        raise UserError(f"--csv-quotes {reading.csv_quotes}: {path} is neither CSV nor TSV; leave it away")
    columns, num_rows = _inspect(path, parts, reading.csv_quotes)
    if num_rows == 0 or not columns:
        raise UserError(f"corpus {path}: holds no {'columns' if num_rows else 'rows'}; give at least one text")
    if num_rows > MAX_ROWS:
        raise UserError(f"corpus {path}: {num_rows} rows are more than {MAX_ROWS}; split it")
    text = _choose(path, columns, reading.text_column, "--text-column", TEXT_COLUMNS)
    if text is None:
        raise UserError(
            f"corpus {path}: no column named {' or '.join(TEXT_COLUMNS)}; "
            f"choose one of {_listed(columns)} with --text-column"
        )
    id = None if reading.row_ids else _choose(path, columns, reading.id_column, "--id-column", ID_COLUMNS)
    for part in parts:
        with _told(path, part), open_input(part.location) as source:
            reader = formats.reader(part.format, reading.csv_quotes)
            reader.require_readable(source, _in_file(part, text), _in_file(part, id))
    fingerprint = fingerprint_of(path, parts) + reading.tag
    return Corpus(path, text, id, num_rows, fingerprint, tuple(parts), reading.csv_quotes)


def _inspect(path: Location, parts: list[Part], csv_quotes: str) -> tuple[list[str], int]:
    """The columns of all parts, those of one part as often as they are there, and the number of rows."""
    columns: list[str] = []
    num_rows = 0
    for part in parts:
        with _told(path, part), open_input(part.location) as source:
            _require_content(source)
            found, num_more = formats.reader(part.format, csv_quotes).columns_and_rows(source)
        known = set(columns)
        found = [name for name in found if name not in part.keys]
        columns += [name for name in [*found, *part.keys] if name not in known]
        num_rows += num_more
    return columns, num_rows


def _require_content(source: Any) -> None:
    if source.read(len(LFS_POINTER)) == LFS_POINTER:
        raise Complaint("is a pointer of git-lfs, not the file; get it with: git lfs pull")
    source.seek(0)


def _batches(part: Part, reader: Rows, text: str, id: str | None) -> Iterator[Pairs]:
    with open_input(part.location) as source:
        for batch in reader.pairs(source, _in_file(part, text), _in_file(part, id)):
            if part.keys:
                batch = [(_of_path(part, id, of_id), _of_path(part, text, of_text)) for of_id, of_text in batch]
            yield batch


def _of_path(part: Part, column: str | None, value: object) -> object:
    """The value that the part's path gives a column; it wins, as it does in Spark."""
    return part.keys[column] if column in part.keys else value


def _in_file(part: Part, column: str | None) -> str | None:
    """The column if it is the file that holds it."""
    return None if column in part.keys else column


@contextmanager
def _told(path: Location, part: Part) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Complaint as error:
        raise UserError(f"{_name(path, part)}: {error}") from error
    except DAMAGE as error:
        kind = part.format.upper()
        raise UserError(f"{_name(path, part)}: not a readable {kind} file ({first_line(error)})") from error


def _name(path: Location, part: Part) -> str:
    return f"corpus {part.location if part.name else path}"


def _choose(path: Location, columns: list[str], asked: str | None, flag: str, usual: tuple[str, ...]) -> str | None:
    name = asked if asked is not None else next((name for name in usual if name in columns), None)
    if name is None:
        return None
    if name not in columns:
        near = difflib.get_close_matches(name, columns[:1000], n=1, cutoff=0.0)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{flag} {name}: {path} has no such column; {hint}it has {_listed(columns)}")
    if columns.count(name) > 1:
        raise UserError(f"corpus {path}: {columns.count(name)} columns are named {name}; rename all but one")
    return name


def _listed(columns: list[str]) -> str:
    return ", ".join(columns[:MAX_LISTED]) + (f" and {len(columns) - MAX_LISTED} more" * (len(columns) > MAX_LISTED))


def _row_id(row: int, id: object, id_column: str | None) -> str | None:
    if id_column is None:
        return f"row-{row}"
    return None if id is None else str(id).encode("utf-8", "backslashreplace").decode()
