"""The ledger: results in storage, each row committed exactly once.

Owns: the Parquet schema, what a line of the manifest says. Must not know: Ray, the engine's tensors, the queue, where
the folder lies.

    DIR/results/part-00000.parquet ...   rows, page checksums written and verified
    DIR/manifest.jsonl                   one line per committed part; readers trust the manifest alone

A part is written first; its line commits it. What both are in an object store: `orchestrator/storage/objects.py`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.console.errors import UserError
from orchestrator.process.fail_points import fail_point
from orchestrator.storage import open_storage
from orchestrator.storage.digest_set import DigestSet
from orchestrator.storage.location import Location
from orchestrator.storage.protocol import RESULTS

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
        ("rung", pa.string()),  # highest rung of proof reached: none, argmax, margin, greedy; null if never solved
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

PART = re.compile(r"part-\d{5,}(-[0-9a-f]+)?\.parquet")
"""Names of parts; a manifest that names another file is not one of ours."""


class Ledger:
    """The results of one run folder.

    Args:
        folder: the run's folder; made with the first commit.
    """

    def __init__(self, folder: Location):
        self.folder = folder
        self._storage = open_storage(folder)
        self._num_parts: int | None = None

    def commit(self, rows: list[Row]) -> None:
        """Write rows as one part and commit it. Does nothing for no rows.

        Raises:
            Superseded: another process has committed since `committed_ids` was asked for.
        """
        if not rows:
            return
        if self._num_parts is None:
            self._num_parts = sum(1 for _ in self.entries())
        fail_point("ledger.before_write")
        part = self._storage.write_part(self._num_parts, _parquet(rows))
        fail_point("ledger.after_rename")
        entry = {"part": part, "rows": len(rows), "ids": [row["id"] for row in rows]}
        self._storage.commit(self._num_parts, json.dumps(entry).encode())
        fail_point("ledger.after_line")
        self._num_parts += 1

    def entries(self) -> Iterator[dict[str, Any]]:
        """Committed parts in order, one at a time: a long run's ids would fill the memory.

        Raises:
            UserError: a line is damaged.
        """
        try:
            yield from map(_entry, self._storage.committed())
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"manifest {self._storage.manifest}: damaged ({error}); restore it from a copy, or delete the run's "
                "folder and run again"
            ) from error

    def committed_ids(self) -> DigestSet:
        """Ids that have their row. Whoever leaves them out commits right after them, or not at all."""
        ids = DigestSet()
        self._num_parts = 0
        for entry in self.entries():
            ids.update(entry["ids"])
            self._num_parts += 1
        return ids

    def read(self, columns: list[str] | None = None) -> Iterator[Row]:
        """Committed rows, part after part, page checksums verified.

        Raises:
            UserError: a committed part is missing or damaged; the message names it.
        """
        for entry in self.entries():
            yield from self._read_part(entry["part"], columns)

    def read_id(self, id: str) -> Row:
        """One row, prompt included.

        Raises:
            UserError: no such id, or its part is missing or damaged.
        """
        for entry in self.entries():
            if id in entry["ids"]:
                return next(row for row in self._read_part(entry["part"]) if row["id"] == id)
        raise UserError(f"--id {id}: {self.folder} has no such row")

    def _read_part(self, part: str, columns: list[str] | None = None) -> list[Row]:
        name = f"{RESULTS}/{part}"
        try:
            with self._storage.open(name) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
                _require_ours(file.schema_arrow)
                asked = columns or SCHEMA.names
                table = file.read([*asked, *(EARLIER[name] for name in asked if name in EARLIER)])
                # A part of an earlier version lacks the columns that came later.
                none: Row = dict.fromkeys(asked)
                return [none | row for row in in_present_names(table).to_pylist()]
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"results part {self._storage.at(name)}: damaged ({reason}); restore it from a copy, or delete the "
                "run's folder and run again"
            ) from error


def _entry(line: bytes) -> dict[str, Any]:
    """A line of the manifest."""
    entry = json.loads(line)
    match entry:
        case {"part": str(part), "rows": int(), "ids": list()} if PART.fullmatch(part):
            return entry
    raise ValueError(f"{line[:60]!r} names no part of a run")


def in_present_names(table: pa.Table) -> pa.Table:
    """A part's columns under the names that they have now."""
    return table.rename_columns([PRESENT.get(name, name) for name in table.column_names])


def _require_ours(schema: pa.Schema) -> None:
    """No types but those that were written: reading another one may run what the file says."""
    for field in schema:
        name = PRESENT.get(field.name, field.name)
        if name not in SCHEMA.names or field.type != SCHEMA.field(name).type:
            raise ValueError(f"column {field.name} is none of a run's results")


def _parquet(rows: list[Row]) -> bytes:
    """Rows as a Parquet file."""
    content = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, content, write_page_checksum=True, compression="zstd", use_dictionary=False)
    return content.getvalue().to_pybytes()
