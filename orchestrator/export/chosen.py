"""The prompts of a run that go out, a shard at a time.

Owns: which rows are taken, how many make a shard, their prompts in the numerics asked for. Must not know: files.

K soft-prompt vectors, D hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.frozen_lm import DTYPES
from orchestrator.console.errors import UserError
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.run_record import RunRecord
from orchestrator.results.stored_prompt import usable
from orchestrator.storage.location import Location

COUNTED = ["id", "row", "status", "reason", "exact", "num_vectors", "hidden_size"]
COLUMNS = ["id", "row", "text", "token_ids", "status", "reason", "exact", "engine", "engine_dtype", "prompt",
           "num_vectors", "hidden_size", "min_margin"]  # fmt: skip

SHARD_BYTES = 64 << 20
"""Of the prompts of a shard, about: what is in memory at a time."""


@dataclass(frozen=True)
class Shard:
    """Some of the prompts, in the corpus's order among themselves.

    Attributes:
        number: from 0.
        rows: without their prompts.
        prompts: theirs, (K, D), by the name each has in the export: `prompt-00000` and so on.
    """

    number: int
    rows: list[Row]
    prompts: dict[str, Tensor]

    @property
    def named(self) -> list[tuple[str, Row]]:
        return list(zip(self.prompts, self.rows, strict=True))


@dataclass(frozen=True)
class Chosen:
    """Prompts on their way out.

    Attributes:
        ledger: that they are read from.
        with_inexact: whether rows are taken that are not exact.
        ids: of the rows that are taken; None is all.
        places: of each row that is taken, in the order of the ledger, its place among them in the corpus's order.
        ends: of each shard the number of rows up to its end.
        num_left_out: rows that are not exact and were not asked for.
    """

    record: RunRecord
    ledger: Ledger
    with_inexact: bool
    ids: frozenset[str] | None
    places: np.ndarray
    ends: list[int]
    num_left_out: int
    dtype: str

    def __len__(self) -> int:
        return len(self.places)

    def file(self, stem: str, suffix: str, number: int = 0) -> str:
        """A shard's file: `STEM.SUFFIX` where there is one shard, else `STEM-00001-of-00016.SUFFIX`."""
        num_shards = len(self.ends)
        return f"{stem}{suffix}" if num_shards == 1 else f"{stem}-{number + 1:05d}-of-{num_shards:05d}{suffix}"

    def shards(self) -> Iterator[Shard]:
        """The prompts, read from the ledger.

        Raises:
            UserError: a stored prompt is damaged or does not fit the numerics.
        """
        rows: list[tuple[int, Row]] = []
        number = num_read = 0
        for row in self.ledger.read(COLUMNS):
            if num_read == len(self) or not _is_wanted(row, self.ids, self.with_inexact, row["prompt"] is not None):
                continue
            rows.append((int(self.places[num_read]), row))
            num_read += 1
            if num_read == self.ends[number]:
                yield self._shard(number, rows)
                number, rows = number + 1, []

    def _shard(self, number: int, rows: list[tuple[int, Row]]) -> Shard:
        rows.sort(key=lambda placed: placed[0])
        prompts = {f"prompt-{place:05d}": _prompt(row, self.record, self.dtype) for place, row in rows}
        return Shard(number, [{name: row[name] for name in row if name != "prompt"} for _, row in rows], prompts)


def choose(folder: Location, record: RunRecord, *, ids: Sequence[str] | None, dtype: str, with_inexact: bool) -> Chosen:
    """The rows to export; no prompt is read yet.

    Raises:
        UserError: unknown id, nothing to export.
    """
    ledger, wanted = Ledger(folder), None if ids is None else frozenset(ids)
    committed = ledger.committed_ids() if ids else ()
    if unknown := [id for id in ids or () if id not in committed]:
        raise UserError(f"--id {min(unknown)}: {folder} has no such row")
    rows, ends, num_bytes, num_left_out = [], [], 0, 0
    for row in ledger.read(COUNTED):
        has_prompt = row["num_vectors"] is not None
        if not _is_wanted(row, wanted, with_inexact, has_prompt):
            num_left_out += wanted is None
            if wanted and row["id"] in wanted:
                remedy = "; add --all to export its prompt" if has_prompt else ""
                raise UserError(f"--id {row['id']}: this row is {row['status']} ({row['reason']}), not exact{remedy}")
            continue
        size = row["num_vectors"] * row["hidden_size"] * DTYPES["float32"].itemsize
        if num_bytes and num_bytes + size > SHARD_BYTES:
            ends.append(len(rows))
            num_bytes = 0
        num_bytes += size
        rows.append(row["row"])
    if not rows:
        remedy = "no row holds a prompt" if with_inexact else "no row is exact; --all takes every row with a prompt"
        raise UserError(f"{folder}: nothing to export, {remedy}")
    places = np.empty(len(rows), dtype=np.int64)
    places[np.argsort(np.array(rows), kind="stable")] = np.arange(len(rows))
    return Chosen(record, ledger, with_inexact, wanted, places, [*ends, len(rows)], num_left_out, dtype)


def _is_wanted(row: Row, ids: frozenset[str] | None, with_inexact: bool, has_prompt: bool) -> bool:
    return (ids is None or row["id"] in ids) and (row["exact"] or (with_inexact and has_prompt))


def _prompt(row: Row, record: RunRecord, dtype: str) -> Tensor:
    prompt_KD = torch.from_numpy(usable(row, record.model).prompt_KD).to(DTYPES[dtype])
    if not prompt_KD.isfinite().all():
        raise UserError(f"--dtype {dtype}: the prompt of {row['id']} has values beyond its range; take bfloat16")
    return prompt_KD
