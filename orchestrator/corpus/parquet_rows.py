"""Parquet of any origin, read within bounds: what a small file unpacks to.

Owns: limits, encodings. Must not know: which columns, why.

A footer tells what a column's pages unpack to, and that is bounded before any is read. Two encodings hold more than
their pages: lengths that are packed take four bytes each, and strings that share prefixes become any size, so that
these are read few at a time and counted.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from orchestrator.corpus.columns import require_kinds, strings
from orchestrator.corpus.rows import Complaint, Pairs

MAX_STRING_BYTES = 1 << 24
MAX_ITEMS = 100_000
"""Longest string and longest list in a footer."""

FREE_BYTES = 1 << 28
MAX_RATIO = 100
"""A column of a row group may unpack to that much, or to so many times its size: prose packs 2 to 10 times."""

BATCH = 1024
DICTIONARY_BATCH = 1 << 16
"""Rows of a batch. Arrow passes a row group's whole dictionary on with each, so many small ones take long."""

PREFIX_BATCH = 64
"""Rows of a batch where strings share prefixes: each may be as long as all pages together."""

LENGTH_BYTES = 4


class ParquetRows:
    """Rows of row groups."""

    def columns_and_rows(self, source: Any) -> tuple[list[str], int]:
        with _open(source) as file:
            return file.schema_arrow.names, file.metadata.num_rows

    def require_readable(self, source: Any, text: str | None, id: str | None) -> None:
        with _open(source) as file:
            require_kinds(file.schema_arrow, text, id)
            for name in (text, id):
                _require_consistent(file, name)
                for group, chunk in enumerate(_chunks(file, name)):
                    _require_bounded(chunk, f"column {name} in row group {group}")

    def pairs(self, source: Any, text: str | None, id: str | None) -> Iterator[Pairs]:
        self.require_readable(source, text, id)
        names = [name for name in (text, id) if name is not None]
        num_rows = 0
        with _open(source) as file:
            dictionaries = [name for name in names if any(map(_is_dictionary_of_strings, _chunks(file, name)))]
        with _open(source, read_dictionary=dictionaries) as file:
            for group in range(file.num_row_groups):  # a batch of several would be lost whole where one is damaged
                for batch in _batches(file, group, names, has_dictionaries=bool(dictionaries)):
                    num_rows += len(batch)
                    ids, texts = (strings(batch.column(name)) if name else [None] * len(batch) for name in (id, text))
                    yield list(zip(ids, texts, strict=True))
            if num_rows != file.metadata.num_rows:
                raise ValueError(f"the footer tells of {file.metadata.num_rows} rows")


def _open(source: Any, **options: Any) -> pq.ParquetFile:
    """A file whose footer is bounded and whose page checksums, if it has any, are verified."""
    return pq.ParquetFile(
        source,
        page_checksum_verification=True,
        thrift_string_size_limit=MAX_STRING_BYTES,
        thrift_container_size_limit=MAX_ITEMS,
        **options,
    )


def _batches(file: pq.ParquetFile, group: int, names: list[str], *, has_dictionaries: bool) -> Iterator[Any]:
    """A row group's batches; refused as soon as shared prefixes have unpacked to more than pages may."""
    chunks = [file.metadata.row_group(group).column(_leaf(file, name)) for name in names]
    prefixed = [chunk for chunk in chunks if "DELTA_BYTE_ARRAY" in chunk.encodings]
    if not prefixed:
        yield from file.iter_batches(DICTIONARY_BATCH if has_dictionaries else BATCH, row_groups=[group], columns=names)
        return
    largest = max(1, *(chunk.total_uncompressed_size for chunk in prefixed))
    most, num_bytes = sum(map(_most, chunks)), 0
    for batch in file.iter_batches(max(1, min(PREFIX_BATCH, FREE_BYTES // largest)), row_groups=[group], columns=names):
        num_bytes += batch.nbytes
        if num_bytes > most:
            raise Complaint(f"row group {group} unpacks to more than {most} bytes; write smaller row groups")
        yield batch


def _chunks(file: pq.ParquetFile, name: str | None) -> Iterator[Any]:
    """The column's metadata, row group after row group."""
    if name is None:
        return iter(())
    leaf = _leaf(file, name)
    return (file.metadata.row_group(group).column(leaf) for group in range(file.num_row_groups))


def _leaf(file: pq.ParquetFile, name: str) -> int:
    return next(i for i in range(file.metadata.num_columns) if file.metadata.schema.column(i).path == name)


def _require_consistent(file: pq.ParquetFile, name: str | None) -> None:
    """Refuse a column whose metadata contradict each other: asked for them as they are, pyarrow 26 aborts the process.

    A reader that is to read no rows is made of them, which raises as it should, and touches no page.
    """
    if name is not None:
        leaf = _leaf(file, name)
        for group in range(file.num_row_groups):
            next(file.reader.iter_batches(0, row_groups=[group], column_indices=[leaf]), None)


def _require_bounded(chunk: Any, place: str) -> None:
    size, packed = chunk.total_uncompressed_size, max(chunk.total_compressed_size, 1)
    if any(encoding.startswith("DELTA_") for encoding in chunk.encodings):
        size += LENGTH_BYTES * chunk.num_values
    if size > _most(chunk):
        raise Complaint(f"{place} unpacks from {packed} to {size} bytes; write smaller row groups")


def _most(chunk: Any) -> int:
    """Bytes that a column of a row group may unpack to."""
    return max(FREE_BYTES, MAX_RATIO * chunk.total_compressed_size)


def _is_dictionary_of_strings(chunk: Any) -> bool:
    return chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY"
