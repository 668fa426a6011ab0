"""Parquet of any origin, read within bounds: what a small file unpacks to, and what its columns may be.

Owns: limits, types and encodings that are read, strings that are not valid UTF-8. Must not know: which columns, why.

A value that a dictionary holds once is made once, however many rows point to it; no value is ever unpickled, because
no extension type is read.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MAX_STRING_BYTES = 1 << 24
MAX_ITEMS = 100_000
"""Longest string and longest list in a footer."""

FREE_BYTES = 1 << 28
MAX_RATIO = 100
"""A column of a row group may unpack to that much, or to so many times its size: prose packs 2 to 10 times."""

DICTIONARY_BATCH = 1 << 16
"""Rows of a batch. Arrow passes a row group's whole dictionary on with each, so many small ones take long."""

ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
"""Of strings. Those that share prefixes are left out: a few bytes of them unpack to any size."""


def open_parquet(source: Any, **options: Any) -> pq.ParquetFile:
    """A file whose footer is bounded and whose page checksums, if it has any, are verified."""
    return pq.ParquetFile(
        source,
        page_checksum_verification=True,
        thrift_string_size_limit=MAX_STRING_BYTES,
        thrift_container_size_limit=MAX_ITEMS,
        **options,
    )


def columns_and_rows(source: Any) -> tuple[list[str], int]:
    """Names of the columns and number of rows, as the footer tells."""
    with open_parquet(source) as file:
        return file.schema_arrow.names, file.metadata.num_rows


def require_bounded(source: Any, text: str, id: str | None) -> None:
    """Refuse columns of other types than strings (ids: whole numbers too), and those that unpack to too much.

    Raises:
        ValueError: the column, what is wrong with it, and the remedy.
    """
    with open_parquet(source) as file:
        for name in (text, id) if id else (text,):
            kind = file.schema_arrow.field(name).type
            if not _is_string(kind) and not (name == id and pa.types.is_integer(kind)):
                raise ValueError(f"column {name} holds {_short(kind)}; give one of strings, or write it as strings")
            for group, chunk in enumerate(_chunks(file, name)):
                _require_bounded(chunk, f"column {name} in row group {group}")


def pairs(source: Any, text: str, id: str | None) -> Iterator[list[tuple[object, object]]]:
    """Batches of (id, text). A string that is not valid UTF-8 keeps its bytes as lone surrogates.

    Raises:
        ValueError: as `require_bounded`, or fewer rows than the footer tells.
        pa.ArrowException, OSError: damaged.
    """
    require_bounded(source, text, id)
    names = [text, id] if id else [text]
    num_rows = 0
    with open_parquet(source) as file:
        strings = [name for name in names if any(_is_dictionary_of_strings(chunk) for chunk in _chunks(file, name))]
    with open_parquet(source, read_dictionary=strings) as file:
        for group in range(file.num_row_groups):  # a batch of several would be lost whole where one is damaged
            for batch in file.iter_batches(DICTIONARY_BATCH if strings else 1024, row_groups=[group], columns=names):
                num_rows += len(batch)
                ids = _values(batch.column(id)) if id else [None] * len(batch)
                yield list(zip(ids, _values(batch.column(text)), strict=True))
        if num_rows != file.metadata.num_rows:
            raise ValueError(f"the footer tells of {file.metadata.num_rows} rows")


def _chunks(file: pq.ParquetFile, name: str) -> Iterator[Any]:
    """The column's metadata, row group after row group."""
    metadata = file.metadata
    leaf = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == name)
    return (metadata.row_group(group).column(leaf) for group in range(metadata.num_row_groups))


def _require_bounded(chunk: Any, place: str) -> None:
    size, packed = chunk.total_uncompressed_size, max(chunk.total_compressed_size, 1)
    if size > max(FREE_BYTES, MAX_RATIO * packed):
        raise ValueError(f"{place} unpacks from {packed} to {size} bytes; write smaller row groups")
    if chunk.physical_type == "BYTE_ARRAY" and (other := set(chunk.encodings) - ENCODINGS):
        raise ValueError(f"{place} is encoded as {min(other)}, which is not read; write it with pyarrow")


def _is_dictionary_of_strings(chunk: Any) -> bool:
    return chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY"


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def _values(column: pa.Array) -> list[object]:
    if pa.types.is_dictionary(column.type):
        used = column.indices.drop_null().unique()
        values = dict(zip(used.to_pylist(), _values(column.dictionary.take(used)), strict=True))
        return [None if index is None else values[index] for index in column.indices.to_pylist()]
    if not _is_string(column.type):
        return column.to_pylist()
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]


def _short(kind: pa.DataType) -> str:
    name = str(kind)
    return name if len(name) <= 60 else f"{name[:60]}..."
