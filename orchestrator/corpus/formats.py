"""Formats by name: endings, what standard input holds.

Owns: which reader a file has. Must not know: what readers do.
"""

from pathlib import PurePosixPath
from typing import Any

from orchestrator.console.errors import UserError
from orchestrator.corpus.arrow_rows import FILE_MAGIC, ArrowRows
from orchestrator.corpus.csv_rows import QUOTES, CsvRows
from orchestrator.corpus.json_rows import JsonRows
from orchestrator.corpus.parquet_rows import ParquetRows
from orchestrator.corpus.rows import Rows
from orchestrator.corpus.text import TextRows, begins_with, opened
from orchestrator.storage.location import STDIN, Location, name_of

FORMATS = {
    "parquet": (".parquet", ".pq", ".parq"),
    "arrow": (".arrow", ".feather"),
    "json": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "txt": (".txt", ".text"),
}
"""Endings of each; upper case is as good. A file without any is `txt`."""

BINARY = ("parquet", "arrow")
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Endings that may stand behind those of text."""

LISTED = "a .parquet, .jsonl, .csv, .tsv or .txt file"
FLAG = f"--format {', '.join(FORMATS)}"


def format_of(name: str) -> str | None:
    """The format that an ending stands for; None where it stands for none that is read."""
    path = PurePosixPath(name.lower())
    is_packed = path.suffix in PACKED
    suffix = PurePosixPath(path.stem).suffix if is_packed else path.suffix
    format = "txt" if not suffix else next((format for format, endings in FORMATS.items() if suffix in endings), None)
    return None if is_packed and format in BINARY else format


def short_name(location: Location) -> str:
    """A corpus's name without the endings that tell what it holds."""
    if location == STDIN:
        return "stdin"
    path = name_of(location)
    if path.suffix.lower() in PACKED:
        path = PurePosixPath(path.stem)
    return path.stem


def asked_format(name: str | None) -> str | None:
    """The format that a user named, by its name or an ending.

    Raises:
        UserError: there is none of that name.
    """
    if name is None or name in FORMATS:
        return name
    if found := next((format for format, endings in FORMATS.items() if f".{name}" in endings), None):
        return found
    raise UserError(f"--format {name}: must be one of {', '.join(FORMATS)}")


def reader(format: str, quotes: str) -> Rows:
    """The reader of a format.

    Args:
        quotes: how CSV and TSV write a quote inside a cell, one of `QUOTES`.
    Raises:
        UserError: there is no such way.
    """
    if quotes not in QUOTES:
        raise UserError(f"--csv-quotes {quotes}: must be one of {', '.join(QUOTES)}")
    readers: dict[str, Rows] = {
        "parquet": ParquetRows(),
        "arrow": ArrowRows(),
        "json": JsonRows(),
        "csv": CsvRows(",", quotes),
        "tsv": CsvRows("\t", quotes),
        "txt": TextRows(),
    }
    return readers[format]


def recognised(source: Any, headers: tuple[str, ...]) -> str | None:
    """The format of what has no name; None where it looks like a table of text, whose delimiter is for a person to say.

    Args:
        headers: names of columns that a table would have.
    """
    head = source.read(8)
    source.seek(0)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head in (FILE_MAGIC, b"\xff\xff\xff\xff" + head[4:]):
        return "arrow"
    with opened(source) as file:
        text = begins_with(file)
    if text[:1] in ("{", "["):
        return "json"
    first = text.partition("\n")[0].lower()
    cells = {cell.strip(' "\r') for cell in first.replace("\t", ",").replace(";", ",").split(",")}
    return None if cells & set(headers) else "txt"
