"""The ledger: results in storage, each row committed exactly once.

Owns: the Parquet schema, reading and writing parts. Must not know: Ray, the engine's tensors, the queue, where the
folder lies.

    DIR/results/part-00000.parquet ...   rows, page checksums written and verified
    DIR/manifest.jsonl                   one line per committed part; readers trust the manifest alone

A part is written first; its line commits it. What both are in an object store: `orchestrator/storage/objects.py`.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.console.errors import UserError
from orchestrator.process.fail_points import fail_point
from orchestrator.results.manifest import Entry, Manifest
from orchestrator.storage import open_storage
from orchestrator.storage.digest_set import DigestSet
from orchestrator.storage.location import Location
from orchestrator.storage.protocol import RESULTS, Storage

SCHEMA_VERSION = 5

SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # the corpus's id; made unique with #row where it was null or a duplicate
        ("row", pa.int64()),  # 0-based position in the corpus
        ("text", pa.string()),  # the target text; null where it was null, not valid Unicode, or huge and no target
        ("token_ids", pa.list_(pa.int32())),  # T target tokens, end-of-text included; null for invalid rows
        ("spelling", pa.string()),  # engine.spelling.Spelling of token_ids; null for invalid rows and before version 4
        ("status", pa.string()),  # verified, rejected, unsolved, invalid, poisoned
        ("reason", pa.string()),  # why it is not verified; null where it is
        (
            "exact",
            pa.bool_(),
        ),  # the verifying engine emitted exactly token_ids; written by the verifier alone
        ("text_exact", pa.bool_()),  # what it emitted decodes to exactly the text, by whatever tokens
        ("rung", pa.string()),  # highest rung of proof reached: none, argmax, margin, scored, greedy; null if
        # never solved
        ("proof", pa.string()),  # greedy, or beam: the solver's certificate for beam search of any width holds and the
        # verifying engine's beams of 4 said the text too; null where it is not exact
        ("engine", pa.string()),  # verifying engine and version; null if never judged
        ("engine_dtype", pa.string()),  # its numerics
        ("generated_ids", pa.list_(pa.int32())),  # what it emitted
        ("num_vectors", pa.int32()),  # K
        ("hidden_size", pa.int32()),  # D
        (
            "prompt",
            pa.list_(pa.float32()),
        ),  # K * D values, vector after vector; null if nothing was optimised
        ("min_margin", pa.float32()),  # smallest margin the solver measured on exactly this prompt, logits
        ("engine_margin", pa.float32()),  # smallest margin the verifying engine gives a target token, the true text
        # before it, logits; null if never judged, and of texts too long to be scored
        ("log_prob", pa.float32()),  # of the text on exactly this prompt, nats: plain sampling says it so often
        ("beam_slack", pa.float32()),  # every other text is at least so much less likely, nats, as the solver measured
        # it; positive: beam search of any width says the text; null, as log_prob, where only a prefix was measured
        ("first_mismatch", pa.int32()),  # the verifier's if it judged, else the solver's; T if none
        ("teacher_forced_nats", pa.float32()),  # mean cross-entropy under the true prefix, on the stored prompt
        ("token_accuracy", pa.float32()),  # share of right tokens in free-running greedy decoding: the verifier's if
        # it judged, else the solver's own
        ("seq_rep_4", pa.float32()),  # share of repeated 4-grams in the same text
        ("diagnosis", pa.string()),  # engine.monitors.Diagnosis of the same text
        ("steps", pa.int64()),  # optimisation steps of all attempts
        ("positions", pa.int64()),  # positions passed forward and backward, all attempts and siblings
        ("attempts", pa.int32()),  # attempts that ended
        ("recipe_hash", pa.string()),
        ("model_fingerprint", pa.string()),
        ("solver_dtype", pa.string()),  # numerics min_margin was measured in
        ("seconds", pa.float64()),  # wall time in the solver's table, shared with the slots beside it
    ],
    metadata={"verbatim_schema_version": str(SCHEMA_VERSION)},
)

EARLIER = {"positions": "tokens"}
"""What a column was called before version 5."""

PRESENT = {earlier: name for name, earlier in EARLIER.items()}

Row = dict[str, Any]

PROMPT = "prompt"
BATCH, PROMPT_BATCH = 1024, 64
"""Rows in memory at a time, without prompts and with them: the prompt of a large model takes a quarter of a MiB."""

BUFFER_BYTES = 1 << 20
"""Of a column that are read at a time; without a bound Arrow reads all of it that a row group has."""


GROUP_VALUES = 1 << 21
"""Numbers in the prompts of a row group, about: 8 MiB. The memory of one serves the next; with all rows of a part at
once a large model's took twice the time and twice the memory, LOG 2026-11-26."""


class Ledger:
    """The results of one run folder.

    Args:
        folder: the run's folder; made with the first commit.
    """

    def __init__(self, folder: Location):
        self.folder = folder
        self._storage = open_storage(folder)
        self._manifest = Manifest(self._storage)

    def commit(self, rows: list[Row]) -> None:
        """Write rows as one part and commit it. Does nothing for no rows.

        Raises:
            Superseded: another process has committed since `committed_ids` was asked for.
        """
        if not rows:
            return
        number = self._manifest.num_lines
        if number is None:
            number = self._manifest.count()
        fail_point("ledger.before_write")
        part = self._storage.write_part(number, _parquet(rows))
        fail_point("ledger.after_rename")
        self._manifest.append({"part": part, "rows": len(rows), "ids": [row["id"] for row in rows]})
        fail_point("ledger.after_line")

    def entries(self) -> Iterator[Entry]:
        """Committed parts in order, one at a time.

        Raises:
            UserError: a line is damaged.
        """
        return Manifest(self._storage).entries()

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
            for batch in read_batches(self._storage, part, columns):
                yield from (none | row for row in _rows(batch))
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise self._damaged(part, error) from error

    def _damaged(self, part: str, error: Exception) -> UserError:
        reason = str(error).strip().splitlines()[0]
        return UserError(
            f"results part {self._storage.at(f'{RESULTS}/{part}')}: damaged ({reason}); restore it from a copy, or "
            "delete the run's folder and run again"
        )


def read_batches(storage: Storage, part: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a part as they lie there, few at a time; a part of an earlier version lacks the columns that came later.

    Raises:
        FileNotFoundError: it is not there.
        OSError, ValueError: it is damaged.
    """
    has_prompts = columns is None or PROMPT in columns
    with (
        storage.open(f"{RESULTS}/{part}") as source,
        pq.ParquetFile(source, page_checksum_verification=True, buffer_size=BUFFER_BYTES) as file,
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


def _parquet(rows: list[Row]) -> bytes:
    """Rows as a Parquet file."""
    return parquet_bytes(pa.Table.from_pylist(group, schema=SCHEMA) for group in _groups(rows))


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


def parquet_bytes(tables: Iterable[pa.Table]) -> bytes:
    """Tables as a Parquet file, one row group each."""
    content = pa.BufferOutputStream()
    how: dict[str, Any] = {"write_page_checksum": True, "compression": "zstd", "use_dictionary": False}
    with pq.ParquetWriter(content, SCHEMA, **how) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
    return content.getvalue().to_pybytes()
