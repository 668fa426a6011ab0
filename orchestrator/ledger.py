"""The ledger: results on disk, each row committed exactly once.

Owns: the Parquet schema, part files, the manifest. Must not know: Ray, the engine's tensors, the queue.

    DIR/results/part-00000.parquet ...   rows, page checksums written and verified
    DIR/manifest.jsonl                   one line per committed part; readers trust this file alone

A part is written under a temporary name, synced, renamed; the manifest line, synced, commits it.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import UserError
from orchestrator.fail_points import fail_point

SCHEMA_VERSION = 3

SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # the corpus's id; made unique with #row where it was null or a duplicate
        ("row", pa.int64()),  # 0-based position in the corpus
        ("text", pa.string()),  # the target text; null where it was null or not valid Unicode
        ("token_ids", pa.list_(pa.int32())),  # T target tokens, end-of-text included; null for invalid rows
        ("status", pa.string()),  # verified, rejected, unsolved, invalid, poisoned
        ("reason", pa.string()),  # why it is not verified; null where it is
        (
            "exact",
            pa.bool_(),
        ),  # the verifying engine emitted exactly token_ids; written by the verifier alone
        ("text_exact", pa.bool_()),  # what it emitted decodes to exactly the text, by whatever tokens
        ("rung", pa.string()),  # highest rung of proof reached: none, argmax, margin, greedy; null if never solved
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
        ("first_mismatch", pa.int32()),  # the verifier's if it judged, else the solver's; T if none
        ("teacher_forced_nats", pa.float32()),  # mean cross-entropy under the true prefix, on the stored prompt
        ("token_accuracy", pa.float32()),  # share of right tokens in free-running greedy decoding: the verifier's if
        # it judged, else the solver's own
        ("seq_rep_4", pa.float32()),  # share of repeated 4-grams in the same text
        ("diagnosis", pa.string()),  # engine.monitors.Diagnosis of the same text
        ("steps", pa.int64()),  # optimisation steps of all attempts
        ("tokens", pa.int64()),  # positions passed forward and backward, all attempts and siblings
        ("attempts", pa.int32()),  # attempts that ended
        ("recipe_hash", pa.string()),
        ("model_fingerprint", pa.string()),
        ("solver_dtype", pa.string()),  # numerics min_margin was measured in
        ("seconds", pa.float64()),  # wall time in the solver's table, shared with the slots beside it
    ],
    metadata={"verbatim_schema_version": str(SCHEMA_VERSION)},
)

Row = dict[str, Any]


class Ledger:
    """The results of one run folder.

    Args:
        folder: the run's folder; created on the first commit.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.parts = folder / "results"
        self.manifest = folder / "manifest.jsonl"
        self._num_parts: int | None = None

    def commit(self, rows: list[Row]) -> None:
        """Write rows as one part and commit it. Does nothing for no rows."""
        if not rows:
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        if self._num_parts is None:
            self._num_parts = len(self.entries())
            self._cut_torn_line()
        name = f"part-{self._num_parts:05d}.parquet"
        temporary = self.parts / f".{name}.tmp"
        fail_point("ledger.before_write")
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        pq.write_table(table, temporary, write_page_checksum=True, compression="zstd", use_dictionary=False)
        _sync(temporary)
        fail_point("ledger.after_write")
        temporary.replace(self.parts / name)
        _sync(self.parts)
        fail_point("ledger.after_rename")
        entry = {"part": name, "rows": len(rows), "ids": [row["id"] for row in rows]}
        with self.manifest.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        fail_point("ledger.after_line")
        self._num_parts += 1

    def entries(self) -> list[dict[str, Any]]:
        """Committed parts in order. A torn last line was never a commit.

        Raises:
            UserError: a whole line is damaged.
        """
        try:
            return [json.loads(line) for line in self._whole_lines().splitlines()]
        except ValueError as error:
            raise UserError(
                f"manifest {self.manifest}: damaged ({error}); restore it from a copy, or delete the run's folder "
                "and run again"
            ) from error

    def committed_ids(self) -> set[str]:
        """Ids that have their row."""
        return {id for entry in self.entries() for id in entry["ids"]}

    def read(self, columns: list[str] | None = None) -> Iterator[Row]:
        """Committed rows, part after part, page checksums verified.

        Raises:
            UserError: a committed part is missing or damaged; the message names it.
        """
        for entry in self.entries():
            path = self.parts / entry["part"]
            try:
                with pq.ParquetFile(path, page_checksum_verification=True) as file:
                    yield from file.read(columns).to_pylist()
            except (OSError, pa.ArrowInvalid) as error:
                reason = str(error).strip().splitlines()[0]
                raise UserError(
                    f"results part {path}: damaged ({reason}); restore it from a copy, or delete the run's folder "
                    "and run again"
                ) from error

    def read_id(self, id: str) -> Row:
        """One row, prompt included.

        Raises:
            UserError: no such id.
        """
        for entry in self.entries():
            if id in entry["ids"]:
                return next(row for row in self.read() if row["id"] == id)
        raise UserError(f"--id {id}: {self.folder} has no such row")

    def _whole_lines(self) -> bytes:
        """The manifest without a torn last line."""
        content = self.manifest.read_bytes() if self.manifest.is_file() else b""
        return content[: content.rfind(b"\n") + 1]

    def _cut_torn_line(self) -> None:
        """Make the next line stand alone."""
        if self.manifest.is_file():
            os.truncate(self.manifest, len(self._whole_lines()))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
