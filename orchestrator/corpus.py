"""Corpora: rows of (id, text) from Parquet, JSONL, CSV or plain text.

Owns: file formats, column choice, row ids. Must not know: tokenizers, optimisation, results.
"""

import difflib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pa_csv

from orchestrator import parquet_rows
from orchestrator.errors import UserError
from orchestrator.location import Location, fingerprint, is_file, name_of, open_input

TEXT_COLUMNS = ("text", "sentence", "content", "target")
"""Columns taken for the text when none is named, in this order."""

MAX_ROWS = 100_000_000
MAX_LINE = 1 << 24
"""Most rows, and most characters of a line or bytes of a CSV row: no model reads a text of that length."""

MAX_LISTED = 20
"""Columns that a message names."""

DAMAGE = (pa.ArrowException, OSError, ValueError, RecursionError)
"""What the libraries raise for a file that is not what its name says."""


@dataclass(frozen=True)
class CorpusRow:
    """One input row.

    Attributes:
        row: 0-based position in the file.
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
        fingerprint: another one where the file has changed.
    """

    path: Location
    text_column: str
    id_column: str | None
    num_rows: int
    fingerprint: str

    def rows(self) -> Iterator[CorpusRow]:
        """Rows in file order, a batch in memory at a time.

        Raises:
            UserError: the file turns out to be damaged on the way.
        """
        row = 0
        try:
            for batch in _batches(self.path, self.text_column, self.id_column):
                for id, text in batch:
                    yield CorpusRow(row, _row_id(row, id, self.id_column), text)
                    row += 1
        except UserError:
            raise
        except DAMAGE as error:
            raise UserError(f"corpus {self.path}: damaged after row {row} ({_first_line(error)})") from error


def open_corpus(path: Location, text_column: str | None = None, id_column: str | None = None) -> Corpus:
    """Open a corpus and settle its columns.

    Raises:
        UserError: no such file, unknown kind, not readable, no such column, no rows.
        StorageError: the store it lies in does not answer.
    """
    if not is_file(path):
        raise UserError(f"corpus {path}: no such file; give a .parquet, .jsonl, .csv or .txt file")
    try:
        columns, num_rows = _inspect(path)
    except UserError:
        raise
    except DAMAGE as error:
        kind = name_of(path).suffix.lstrip(".").upper() or "text"
        raise UserError(f"corpus {path}: not a readable {kind} file ({_first_line(error)})") from error
    if num_rows == 0:
        raise UserError(f"corpus {path}: holds no rows; give at least one text")
    if num_rows > MAX_ROWS:
        raise UserError(f"corpus {path}: {num_rows} rows are more than {MAX_ROWS}; split it")
    text = _choose(path, columns, text_column, "--text-column", TEXT_COLUMNS)
    if text is None:
        raise UserError(
            f"corpus {path}: no column named {' or '.join(TEXT_COLUMNS)}; "
            f"choose one of {_listed(columns)} with --text-column"
        )
    id = _choose(path, columns, id_column, "--id-column", ("id",))
    _require_bounded(path, text, id)
    return Corpus(path, text, id, num_rows, fingerprint(path))


def _choose(path: Location, columns: list[str], asked: str | None, flag: str, usual: tuple[str, ...]) -> str | None:
    name = asked or next((name for name in usual if name in columns), None)
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


def _require_bounded(path: Location, text: str, id: str | None) -> None:
    if name_of(path).suffix != ".parquet":
        return
    try:
        with open_input(path) as source:
            parquet_rows.require_bounded(source, text, id)
    except DAMAGE as error:
        raise UserError(f"corpus {path}: {_first_line(error)}") from error


def _inspect(path: Location) -> tuple[list[str], int]:
    """Column names and number of rows."""
    match name_of(path).suffix:
        case ".parquet":
            with open_input(path) as source:
                return parquet_rows.columns_and_rows(source)
        case ".csv":
            table = _read_csv(path)
            return table.column_names, table.num_rows
        case ".jsonl" | ".ndjson":
            columns: dict[str, None] = {}
            num_rows = 0
            for record in _json_records(path):
                columns |= dict.fromkeys(record)
                num_rows += 1
            return list(columns), num_rows
        case ".txt" | ".text" | "":
            return ["text"], sum(1 for _ in _text_lines(path))
    raise UserError(f"corpus {path}: unknown kind {name_of(path).suffix}; give a .parquet, .jsonl, .csv or .txt file")


def _batches(path: Location, text: str, id: str | None) -> Iterator[list[tuple[object, object]]]:
    """Batches of (id, text); ids are None where there is no id column."""
    match name_of(path).suffix:
        case ".parquet":
            with open_input(path) as source:
                yield from parquet_rows.pairs(source, text, id)
        case ".csv":
            table = _read_csv(path)
            texts = table.column(text).to_pylist()
            yield list(zip(table.column(id).to_pylist() if id else [None] * len(texts), texts, strict=True))
        case ".jsonl" | ".ndjson":
            for record in _json_records(path):
                yield [(record.get(id) if id else None, record.get(text))]
        case _:
            for line in _text_lines(path):
                yield [(None, line)]


def _read_csv(path: Location) -> pa.Table:
    """Every column as a string: an empty cell is an empty text, and `007` stays `007`."""
    read, parse = pa_csv.ReadOptions(block_size=MAX_LINE), pa_csv.ParseOptions(newlines_in_values=True)
    with open_input(path) as source, pa_csv.open_csv(source, read, parse) as reader:
        names = reader.schema.names
    convert = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    with open_input(path) as source:
        return pa_csv.read_csv(source, read, parse, convert)


def _json_records(path: Location) -> Iterator[dict]:
    for number, line in enumerate(_lines(path, newline=None), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"corpus {path}: line {number} is not JSON ({_first_line(error)})") from error
        if not isinstance(record, dict):
            raise UserError(f"corpus {path}: line {number} is not a JSON object; one object a line")
        yield record


def _text_lines(path: Location) -> Iterator[str]:
    """One text a line; blank lines are separators, not texts."""
    for line in _lines(path, newline=""):
        text = line.rstrip("\r\n")
        if text:
            yield text


def _lines(path: Location, newline: str | None) -> Iterator[str]:
    """Lines with their ends, none of them longer than `MAX_LINE`."""
    with open_input(path) as source, io.TextIOWrapper(source, encoding="utf-8-sig", newline=newline) as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise UserError(f"corpus {path}: line {number} has more than {MAX_LINE} characters; split it")
            yield line


def _row_id(row: int, id: object, id_column: str | None) -> str | None:
    if id_column is None:
        return f"row-{row}"
    return None if id is None else str(id).encode("utf-8", "backslashreplace").decode()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
