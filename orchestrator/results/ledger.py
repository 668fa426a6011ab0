"""The ledger: results in storage, each row committed exactly once.

Owns: commits, reading parts. Must not know: Ray, the engine's tensors, the queue, where the folder lies.

    DIR/results/part-00000.parquet ...   rows, page checksums written and verified
    DIR/manifest.jsonl                   one line per committed part; readers trust the manifest alone

A part is written first; its line commits it. What both are in an object store: `orchestrator/storage/objects.py`.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.console.errors import UserError
from orchestrator.process.fail_points import fail_point
from orchestrator.results.columns import EARLIER, PRESENT, PROMPT, SCHEMA, SCHEMA_VERSION, Row
from orchestrator.results.manifest import Entry, Manifest
from orchestrator.results.part_file import write_part
from orchestrator.storage import open_storage
from orchestrator.storage.digest_set import DigestSet
from orchestrator.storage.location import Location
from orchestrator.storage.protocol import RESULTS, Storage

__all__ = ["PROMPT", "SCHEMA", "SCHEMA_VERSION", "Ledger", "Row", "in_present_names", "read_batches"]

BATCH, PROMPT_BATCH = 1024, 64
"""Rows in memory at a time, without prompts and with them: the prompt of a large model takes a quarter of a MiB."""

BUFFER_BYTES = 1 << 20
"""Of a column that are read at a time; without a bound Arrow reads all of it that a row group has."""


class Ledger:
    """The results of one run folder.

    Args:
        folder: the run's folder; made with the first commit.

    Attributes:
        storage: where it lies.
    """

    def __init__(self, folder: Location):
        self.folder = folder
        self.storage = open_storage(folder)
        self._manifest = Manifest(self.storage)

    def commit(self, rows: list[Row]) -> None:
        """Write rows as one part and commit it. Does nothing for no rows.

        Raises:
            Superseded: another process has committed since `committed_ids` was asked for.
        """
        if rows:
            fail_point("ledger.before_write")
            self.add(write_part(self.storage, self.next_number, rows), [row["id"] for row in rows])

    def add(self, part: str, ids: list[str]) -> None:
        """Commit a part that has been written: its rows are results from here on.

        Raises:
            Superseded: as `commit`.
        """
        fail_point("ledger.after_rename")
        self._manifest.append({"part": part, "rows": len(ids), "ids": ids})
        fail_point("ledger.after_line")

    @property
    def next_number(self) -> int:
        """Of the line that is committed next."""
        number = self._manifest.num_lines
        return self._manifest.count() if number is None else number

    def entries(self) -> Iterator[Entry]:
        """Committed parts in order, one at a time.

        Raises:
            UserError: a line is damaged.
        """
        return Manifest(self.storage).entries()

    def committed_ids(self) -> DigestSet:
        """Ids that have their row. Whoever leaves them out commits right after them, or not at all."""
        ids = DigestSet()
        for entry in self._manifest.entries():
            ids.update(entry["ids"])
        return ids

    def read(self, columns: list[str] | None = None) -> Iterator[Row]:
        """Committed rows, part after part, few in memory at a time, page checksums verified; prompts are arrays.

        Parts that are merged meanwhile are no matter: rows keep their order, and reading goes on behind the last one.

        Raises:
            UserError: a committed part is missing or damaged; the message names it.
        """
        num_read = 0
        gone: str | None = None
        while True:
            to_skip = num_read
            for entry in self.entries():
                if entry["rows"] <= to_skip:
                    to_skip -= entry["rows"]
                    continue
                try:
                    for row in islice(self._read_part(entry["part"], columns), to_skip, None):
                        num_read += 1
                        yield row
                except FileNotFoundError as error:
                    if entry["part"] == gone:
                        raise self._damaged(entry["part"], error) from error
                    gone = entry["part"]
                    break
                to_skip = 0
            else:
                return

    def read_id(self, id: str) -> Row:
        """One row, prompt included.

        Raises:
            UserError: no such id, or its part is missing or damaged.
        """
        gone: str | None = None
        while part := next((entry["part"] for entry in self.entries() if id in entry["ids"]), None):
            try:
                return next(row for row in self._read_part(part) if row["id"] == id)
            except FileNotFoundError as error:
                if part == gone:
                    raise self._damaged(part, error) from error
                gone = part
        raise UserError(f"--id {id}: {self.folder} has no such row")

    def _read_part(self, part: str, columns: list[str] | None = None) -> Iterator[Row]:
        """Rows of a part.

        Raises:
            FileNotFoundError: it is not there, or not any more.
            UserError: it is damaged.
        """
        none: Row = dict.fromkeys(columns or SCHEMA.names)
        try:
            for batch in read_batches(self.storage, part, columns):
                yield from (none | row for row in _rows(batch))
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise self._damaged(part, error) from error

    def _damaged(self, part: str, error: Exception) -> UserError:
        reason = str(error).strip().splitlines()[0]
        return UserError(
            f"results part {self.storage.at(f'{RESULTS}/{part}')}: damaged ({reason}); restore it from a copy, or "
            "delete the run's folder and run again"
        )


def read_batches(storage: Storage, part: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a part as they lie there, few at a time; a part of an earlier version lacks the columns that came later.

    Raises:
        FileNotFoundError: it is not there.
        OSError, ValueError: it is damaged.
    """
    has_prompts = columns is None or PROMPT in columns
    # What is read ahead stays until the file is closed: with prompts the whole part.
    how: dict[str, Any] = {"buffer_size": BUFFER_BYTES, "pre_buffer": not has_prompts}
    with (
        storage.open(f"{RESULTS}/{part}") as source,
        pq.ParquetFile(source, page_checksum_verification=True, **how) as file,
    ):
        _require_ours(file.schema_arrow)
        asked = None if columns is None else [*columns, *(EARLIER[name] for name in columns if name in EARLIER)]
        for batch in file.iter_batches(PROMPT_BATCH if has_prompts else BATCH, columns=asked, use_threads=False):
            yield in_present_names(batch)


def _rows(batch: pa.RecordBatch) -> Iterator[Row]:
    """A batch's rows. A prompt is an array of its own, so that it can outlive the batch; never a list of numbers."""
    if PROMPT not in batch.schema.names:
        yield from batch.to_pylist()
        return
    prompts = batch.column(PROMPT)
    values, offsets, nulls = np.asarray(prompts.values), np.asarray(prompts.offsets), np.asarray(prompts.is_null())
    rest = batch.drop_columns([PROMPT]).to_pylist() if batch.num_columns > 1 else [{}] * len(batch)
    for i, row in enumerate(rest):
        yield row | {PROMPT: None if nulls[i] else values[offsets[i] : offsets[i + 1]].copy()}


def in_present_names(rows: pa.RecordBatch) -> pa.RecordBatch:
    """A part's columns under the names that they have now."""
    return rows.rename_columns([PRESENT.get(name, name) for name in rows.schema.names])


def _require_ours(schema: pa.Schema) -> None:
    """No types but those that were written: reading another one may run what the file says."""
    for field in schema:
        name = PRESENT.get(field.name, field.name)
        if name not in SCHEMA.names or field.type != SCHEMA.field(name).type:
            raise ValueError(f"column {field.name} is none of a run's results")
