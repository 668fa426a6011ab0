"""A part of the results as a file: rows as Parquet, page checksums written, in row groups of bounded size.

Owns: how rows are packed. Must not know: which parts count, Ray, where the folder lies.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.results.columns import PROMPT, SCHEMA, Row
from orchestrator.storage.protocol import Storage

GROUP_VALUES = 1 << 21
"""Numbers in the prompts of a row group, about: 8 MiB. The memory of one serves the next; with all rows of a part at
once a large model's took twice the time and twice the memory, LOG 2026-11-26."""


COMPRESSION = {f"{PROMPT}.list.element": "none"} | {
    f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name: "zstd"
    for field in SCHEMA
    if field.name != PROMPT
}
"""By leaf column."""

HAVE_STATISTICS = [leaf for leaf, codec in COMPRESSION.items() if codec != "none"]
"""The least and the largest number of a prompt help no reader."""


def write_part(storage: Storage, number: int, rows: list[Row], *, is_alone: bool = True) -> str:
    """Write rows as a part; it counts once a line of the manifest names it.

    Args:
        number: of the line that is to name it, or more than that.
        is_alone: as `Storage.write_part`.
    """
    tables = (pa.Table.from_pylist(group, schema=SCHEMA) for group in _groups(rows))
    return storage.write_part(number, partial(write_parquet, tables), is_alone=is_alone)


def _groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows of which so many are in memory once more while they are written."""
    group: list[Row] = []
    num_values = 0
    for row in rows:
        group.append(row)
        num_values += 0 if row[PROMPT] is None else len(row[PROMPT])
        if num_values >= GROUP_VALUES:
            yield group
            group, num_values = [], 0
    if group:
        yield group


def write_parquet(tables: Iterable[pa.Table], file: pa.NativeFile) -> None:
    """Tables into a Parquet file, one row group each.

    Prompts are not packed: of float32 numbers zstd takes 8 % away, for a third of the writer's time, LOG 2026-11-26.
    """
    how: dict[str, Any] = {"compression": COMPRESSION, "use_dictionary": False, "write_statistics": HAVE_STATISTICS}
    with pq.ParquetWriter(file, SCHEMA, write_page_checksum=True, **how) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
