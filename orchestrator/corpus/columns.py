"""Columns of Arrow arrays as texts and ids.

Owns: which types can be either, the one text form of an id, strings that are not valid UTF-8. Must not know: files.

An id's text form is Arrow's own: `7`, `0.1`, `true`, `2026-11-25`, `2026-11-25 10:00:00.500Z`. A double that is whole
has no point, because pandas turns whole numbers into doubles where one is missing. Bytes are hexadecimal, UUIDs as
usual.

A value that a dictionary holds once is made once, however many rows point to it. No value is ever unpickled, because no
extension type but the UUID is read.
"""

from uuid import UUID

import pyarrow as pa

from orchestrator.corpus.rows import Complaint

STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
NO_IDS = (pa.types.is_nested, pa.types.is_interval)


def require_kinds(schema: pa.Schema, text: str | None, id: str | None) -> None:
    """Refuse columns that are not there once, texts that are no strings, ids that are no single values.

    Raises:
        Complaint: the column, what it holds, and the remedy.
    """
    for name in (text, id):
        if name is None:
            continue
        if (count := schema.names.count(name)) != 1:
            raise Complaint(f"{count} columns are named {name}; there must be one")
        kind = schema.field(name).type
        if name == text and not is_string(kind):
            raise Complaint(f"column {name} holds {_short(kind)}; give one of strings, or write it as strings")
        if not is_scalar(kind):
            raise Complaint(f"column {name} holds {_short(kind)}; give one of single values, or write it as strings")


def is_string(kind: pa.DataType) -> bool:
    """Whether texts may be of that type."""
    return any(test(_bare(kind)) for test in STRINGS)


def is_scalar(kind: pa.DataType) -> bool:
    """Whether ids may be of that type."""
    kind = _bare(kind)
    if isinstance(kind, pa.BaseExtensionType):
        return isinstance(kind, pa.UuidType)
    return not any(test(kind) for test in NO_IDS)


def strings(column: pa.Array) -> list[str | None]:
    """A column as strings, each value in its text form. Bytes that are not valid UTF-8 become lone surrogates."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        used = column.indices.drop_null().unique()
        values = dict(zip(used.to_pylist(), strings(column.dictionary.take(used)), strict=True))
        return [None if index is None else values[index] for index in column.indices.to_pylist()]
    if is_string(kind):
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
    if isinstance(kind, pa.UuidType):
        return [None if value is None else str(UUID(bytes=value)) for value in column.storage.to_pylist()]
    if any(test(kind) for test in BYTES):
        return [None if value is None else value.hex() for value in column.to_pylist()]
    if pa.types.is_timestamp(kind) and kind.tz:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))  # the same instant; nobody may know the file's zone
    return column.cast(pa.string()).to_pylist()


def _bare(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _short(kind: pa.DataType) -> str:
    name = str(kind)
    return name if len(name) <= 60 else f"{name[:60]}..."
