"""Prompts in tables: flat lists of K * D numbers as lists of K vectors.

Owns: the shape of the column `prompt`. Must not know: where a table comes from.
"""

import numpy as np
import pyarrow as pa

PROMPT, WIDTH = "prompt", "hidden_size"


def shaped(table: pa.Table) -> pa.Table:
    """The table with its column `prompt` as `list<fixed_size_list<float>[D]>`, no number copied.

    It is left flat where the column `hidden_size`, which tells D, is not there or has several values.
    """
    if not {PROMPT, WIDTH} <= set(table.column_names):
        return table
    widths = table[WIDTH].unique().drop_null()
    if len(widths) != 1:
        return table
    width = widths[0].as_py()
    chunks = [_shaped(chunk, width) for chunk in table[PROMPT].chunks]
    of_type = pa.list_(pa.list_(pa.float32(), width))
    place = table.column_names.index(PROMPT)
    return table.set_column(place, pa.field(PROMPT, of_type), pa.chunked_array(chunks, of_type))


def vectors_field(width: int) -> pa.Field:
    """The column of prompts as lists of vectors."""
    return pa.field(PROMPT, pa.list_(pa.list_(pa.float32(), width)))


def shaped_batch(batch: pa.RecordBatch, width: int, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with its column `prompt`, if it has one, as lists of vectors, no number copied.

    Args:
        width: of a vector, the same in all rows of a run.
        schema: of the batch that is made.
    """
    columns = [
        _shaped(column, width) if name == PROMPT else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _shaped(prompts: pa.ListArray, width: int) -> pa.ListArray:
    vectors = pa.FixedSizeListArray.from_arrays(prompts.flatten(), width)
    offsets = pa.array((np.asarray(prompts.offsets) - prompts.offsets[0].as_py()) // width, pa.int32())
    mask = prompts.is_null() if prompts.null_count else None
    return pa.ListArray.from_arrays(offsets, vectors, mask=mask)
