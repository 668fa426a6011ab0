"""The prompts of a run that go out.

Owns: which rows are taken, their prompts in the numerics asked for. Must not know: files.

K soft-prompt vectors, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.frozen_lm import DTYPES
from orchestrator.console.errors import UserError
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.run_record import RunRecord
from orchestrator.results.stored_prompt import usable
from orchestrator.storage.location import Location

COLUMNS = ["id", "row", "text", "token_ids", "status", "reason", "exact", "engine", "engine_dtype", "prompt",
           "num_vectors", "hidden_size", "min_margin"]  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """Prompts on their way out.

    Attributes:
        rows: in the corpus's order.
        prompts: theirs, (K, D), by the name each has in the export: `prompt-00000` and so on.
        num_left_out: rows that are not exact and were not asked for.
    """

    record: RunRecord
    rows: list[Row]
    prompts: dict[str, Tensor]
    num_left_out: int
    dtype: str

    @property
    def named(self) -> list[tuple[str, Row]]:
        return list(zip(self.prompts, self.rows, strict=True))


def choose(folder: Location, record: RunRecord, *, ids: Sequence[str] | None, dtype: str, with_inexact: bool) -> Chosen:
    """The rows to export.

    Raises:
        UserError: unknown id, nothing to export, a stored prompt is damaged or does not fit the numerics.
    """
    rows, num_left_out = _rows(folder, ids, with_inexact)
    prompts = {f"prompt-{n:05d}": _prompt(row, record, dtype) for n, row in enumerate(rows)}
    return Chosen(record, rows, prompts, num_left_out, dtype)


def _rows(folder: Location, ids: Sequence[str] | None, with_inexact: bool) -> tuple[list[Row], int]:
    """The rows to export in corpus order, and how many others there are to which that does not apply."""
    ledger = Ledger(folder)
    committed = ledger.committed_ids()
    if unknown := [id for id in ids or () if id not in committed]:
        raise UserError(f"--id {min(unknown)}: {folder} has no such row")
    chosen, num_left_out = [], 0
    for row in ledger.read(COLUMNS):
        if ids is not None and row["id"] not in ids:
            continue
        if row["exact"] or (with_inexact and row["prompt"] is not None):
            chosen.append(row)
        elif ids is None:
            num_left_out += 1
        else:
            remedy = "" if row["prompt"] is None else "; add --all to export its prompt"
            raise UserError(f"--id {row['id']}: this row is {row['status']} ({row['reason']}), not exact{remedy}")
    if not chosen:
        remedy = "no row holds a prompt" if with_inexact else "no row is exact; --all takes every row with a prompt"
        raise UserError(f"{folder}: nothing to export, {remedy}")
    return sorted(chosen, key=lambda row: row["row"]), num_left_out


def _prompt(row: Row, record: RunRecord, dtype: str) -> Tensor:
    prompt_KD = torch.from_numpy(usable(row, record.model).prompt_KD.copy()).to(DTYPES[dtype])
    if not prompt_KD.isfinite().all():
        raise UserError(f"--dtype {dtype}: the prompt of {row['id']} has values beyond its range; take bfloat16")
    return prompt_KD
