"""Arrow files, as `save_to_disk` of Hugging Face's datasets leaves them: a record batch at a time.

Owns: streams and files, what they unpack to. Must not know: folders of them.

A batch is held whole. It is not compressed, so no batch is larger than its file.
"""

import io
import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from orchestrator.corpus.columns import require_kinds, strings
from orchestrator.corpus.rows import Complaint, Pairs

FILE_MAGIC = b"ARROW1\0\0"
"""What a file begins with; behind it lies a stream."""

AT_ONCE = 1024
"""Rows that become Python objects together."""

KIND, HEADER, DICTIONARY_DATA, COMPRESSION = 1, 2, 1, 3
"""Numbers of fields in Arrow's Message.fbs: of a Message twice, of a DictionaryBatch, of a RecordBatch."""

DICTIONARY_BATCH, RECORD_BATCH = 2, 3
"""Kinds of messages there."""


class ArrowRows:
    """Rows of record batches."""

    def columns_and_rows(self, source: Any) -> tuple[list[str], int]:
        _require_uncompressed(source)
        with _stream(source) as stream:
            return stream.schema.names, sum(len(batch) for batch in stream)

    def require_readable(self, source: Any, text: str | None, id: str | None) -> None:
        with _stream(source) as stream:
            require_kinds(stream.schema, text, id)

    def pairs(self, source: Any, text: str | None, id: str | None) -> Iterator[Pairs]:
        _require_uncompressed(source)
        self.require_readable(source, text, id)
        with _stream(source) as stream:
            for batch in stream:
                batch.validate(full=True)  # offsets and indices may come from anybody
                for start in range(0, len(batch), AT_ONCE):
                    rows = batch.slice(start, AT_ONCE)
                    ids, texts = (strings(rows.column(name)) if name else [None] * len(rows) for name in (id, text))
                    yield list(zip(ids, texts, strict=True))


def _stream(source: Any) -> pa.RecordBatchStreamReader:
    return pa.ipc.open_stream(_at_messages(source))


def _at_messages(source: Any) -> "_Finite":
    finite = _Finite(source)
    source.seek(0)
    if source.read(len(FILE_MAGIC)) != FILE_MAGIC:
        source.seek(0)
    return finite


class _Finite(io.RawIOBase):
    """A file of which no more is asked than it has: a damaged message may claim any length, which Python allocates."""

    def __init__(self, source: Any):
        self._source, self._size = source, source.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._source.tell())
        return self._source.read(left if size < 0 else min(size, left))


def _require_uncompressed(source: Any) -> None:
    """Refuse batches that say themselves how large they become."""
    for message in pa.ipc.MessageReader.open_stream(_at_messages(source)):
        if _is_compressed(message.metadata.to_pybytes()):
            raise Complaint("is compressed, and nothing bounds what it unpacks to; write it uncompressed or as Parquet")


def _is_compressed(message: bytes) -> bool:
    root = _follow(message, 0)
    kind, header = message[_field(message, root, KIND)], _follow(message, _field(message, root, HEADER))
    if kind == DICTIONARY_BATCH:
        header = _follow(message, _field(message, header, DICTIONARY_DATA))
    return kind in (DICTIONARY_BATCH, RECORD_BATCH) and _field(message, header, COMPRESSION) > 0


def _field(message: bytes, table: int, number: int) -> int:
    """Where a FlatBuffers table has a field; 0 where it has it not."""
    fields = table - struct.unpack_from("<i", message, table)[0]
    place, (size,) = 4 + 2 * number, struct.unpack_from("<H", message, fields)
    offset = struct.unpack_from("<H", message, fields + place)[0] if place < size else 0
    return table + offset if offset else 0


def _follow(message: bytes, at: int) -> int:
    return at + struct.unpack_from("<I", message, at)[0]
