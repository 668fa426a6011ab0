"""`verbatim verify`: prove stored prompts again, and change nothing.

Owns: reading candidates back from a folder, the verdicts over them. Must not know: the solver.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from engine.frozen_lm import DTYPES, ModelSource
from orchestrator import run_record
from orchestrator.errors import UserError
from orchestrator.ledger import Ledger, Row
from orchestrator.summary import printable
from orchestrator.verifier import Candidate, Verdict
from orchestrator.verifier_actor import ENGINES, EngineSpec, make_verifier

COLUMNS = ["id", "token_ids", "prompt", "num_vectors", "hidden_size", "exact", "min_margin"]
JUDGE_BATCH = 256
MARGIN_BINS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Lower edges of the bins in which survival is counted, logits."""


@dataclass(frozen=True)
class Reproof:
    """Verdicts over a folder's stored prompts.

    Attributes:
        verdicts: one for each row that holds a prompt and was exact before.
        margins: the stored smallest margin of each, logits.
        num_unproved: rows that claim nothing: invalid, unsolved, rejected.
    """

    verdicts: list[Verdict]
    margins: list[float]
    num_unproved: int

    @property
    def num_exact(self) -> int:
        return sum(verdict.exact for verdict in self.verdicts)

    @property
    def is_all_exact(self) -> bool:
        """Every claim of the folder holds, and there is one; rows that claim nothing do not count."""
        return 0 < len(self.verdicts) == self.num_exact

    def survival(self) -> list[tuple[float, int, int]]:
        """(lower edge of margin, exact, judged) for each bin that has any."""
        edges = [*MARGIN_BINS, float("inf")]
        bins = []
        for low, high in zip(edges, edges[1:], strict=False):
            inside = [v.exact for v, m in zip(self.verdicts, self.margins, strict=True) if low <= m < high]
            if inside:
                bins.append((low, sum(inside), len(inside)))
        return bins


def reprove(folder: Path, *, engine: str, dtype: str | None) -> Reproof:
    """Decode every stored prompt anew.

    Raises:
        UserError: not a run's folder, unknown engine or dtype, damaged part.
    """
    if engine not in ENGINES:
        raise UserError(f"--engine {engine}: must be one of {', '.join(ENGINES)}")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    record = run_record.require_record(folder)
    rows = list(Ledger(folder).read(COLUMNS))
    claimed = [row for row in rows if row["exact"]]
    if not rows:
        raise UserError(f"{folder}: no committed rows yet; let the run go on first")
    if not claimed:
        return Reproof([], [], len(rows))
    source = ModelSource(record.model.name, record.model.revision)
    spec = EngineSpec(
        engine=engine,
        model=source.path,
        revision=source.revision,
        dtype=dtype or record.engine_dtype,
        context=record.model.context,
    )
    verifier = make_verifier(spec)
    candidates = [stored_candidate(row) for row in claimed]
    verdicts: list[Verdict] = []
    for first in range(0, len(candidates), JUDGE_BATCH):
        verdicts += verifier.judge(candidates[first : first + JUDGE_BATCH])
    return Reproof(verdicts, [row["min_margin"] for row in claimed], len(rows) - len(claimed))


def stored_candidate(row: Row) -> Candidate:
    """A row's prompt and target as the verifier takes them."""
    values = np.asarray(row["prompt"] or [], dtype=np.float32)
    width = row["hidden_size"] or 1
    # A prompt of the wrong length keeps its own shape, for the verifier to refuse with a reason.
    prompt_KD = values.reshape(-1, width) if values.size % width == 0 else values
    return Candidate(row["id"], prompt_KD, tuple(row["token_ids"]))


def print_reproof(reproof: Reproof, console: Console, *, as_json: bool) -> None:
    """What changed, survival by margin, and the count."""
    if as_json:
        print(run_record.dump([asdict(verdict) for verdict in reproof.verdicts]))
        return
    lost = [verdict for verdict in reproof.verdicts if not verdict.exact]
    for verdict in lost[:20]:
        reason = verdict.refusal or f"not exact from token {verdict.first_mismatch}"
        console.print(printable(f"{verdict.id}: {reason}"), style="red", highlight=False, markup=False)
    if len(lost) > 20:
        console.print(f"... and {len(lost) - 20} more", highlight=False)
    for low, exact, judged in reproof.survival() if lost else []:
        console.print(f"margin from {low:g}: {exact} of {judged} exact", highlight=False)
    if reproof.num_unproved:
        console.print(f"{reproof.num_unproved} rows hold no prompt that was proved by the run", highlight=False)
    who = f" on {reproof.verdicts[0].engine} ({reproof.verdicts[0].engine_dtype})" if reproof.verdicts else ""
    console.print(
        f"{reproof.num_exact} of {len(reproof.verdicts)} stored prompts exact{who}",
        style="bold green" if reproof.is_all_exact else "bold yellow",
        highlight=False,
    )
