"""`verbatim decode`: what a stored prompt says, beside what it should say.

Owns: one row decoded and shown. Must not know: the solver, the verifier.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from engine.decoding import greedy
from engine.frozen_lm import DTYPES, FrozenLM, ModelSource
from engine.monitors import diagnose, first_mismatch
from engine.target import Target, decode
from orchestrator import run_record
from orchestrator.errors import UserError
from orchestrator.ledger import Ledger
from orchestrator.reproof import stored_candidate
from orchestrator.summary import printable
from orchestrator.verifier import SLACK_TOKENS

STRATEGIES = ("greedy",)


@dataclass(frozen=True)
class Sight:
    """A stored prompt's own words.

    Attributes:
        says: text decoded here and now, in `dtype` on this machine.
        first_mismatch: first token that differs; T if none.
        diagnosis: what kind of failure it is, or exact.
        margins: teacher-forced margin of each target token, logits.
    """

    id: str
    strategy: str
    dtype: str
    target: str
    says: str
    exact: bool
    first_mismatch: int
    diagnosis: str
    token_ids: list[int]
    generated_ids: list[int]
    margins: list[float]


def look(folder: Path, id: str, *, strategy: str, dtype: str | None) -> Sight:
    """Decode one stored prompt.

    Raises:
        UserError: unknown strategy, dtype, folder or id; a row without a prompt.
    """
    if strategy not in STRATEGIES:
        raise UserError(f"--strategy {strategy}: must be one of {', '.join(STRATEGIES)}")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    record = run_record.require_record(folder)
    row = Ledger(folder).read_id(id)
    if row["prompt"] is None:
        raise UserError(f"--id {id}: this row is {row['status']} ({row['reason']}) and holds no prompt")
    candidate = stored_candidate(row)
    dtype = dtype or record.model.solver_dtype
    lm = FrozenLM.load(ModelSource(record.model.name, record.model.revision), dtype=dtype)
    prompt_KD = torch.from_numpy(candidate.prompt_KD.copy())
    target = list(candidate.token_ids)
    ends = target[-1] == lm.tokens.end_id
    limit = min(len(target) + (SLACK_TOKENS if ends else 0), lm.tokens.context - len(prompt_KD))
    said = greedy(lm, prompt_KD[None], max_tokens=limit)[0]
    with torch.no_grad():
        scores_T = lm.score_targets([prompt_KD], [torch.tensor(target)])
    spoken = Target(id, row["text"], tuple(target), ends=ends)
    return Sight(
        id=id, strategy=strategy, dtype=dtype, target=row["text"], says=decode(lm.tokens, said),
        exact=said == target, first_mismatch=first_mismatch(said, target), diagnosis=str(diagnose(said, spoken)),
        token_ids=target, generated_ids=said,
        margins=[round(margin, 4) for margin in scores_T.margin.tolist()],
    )  # fmt: skip


def print_sight(sight: Sight, console: Console, *, as_json: bool) -> None:
    """Target and decoded text one under the other."""
    if as_json:
        print(run_record.dump(asdict(sight)))
        return
    console.print(Text.assemble(("target  ", "dim"), printable(sight.target)), soft_wrap=True)
    style = "green" if sight.exact else "red"
    console.print(Text.assemble((f"{sight.strategy:<8}", "dim"), (printable(sight.says), style)), soft_wrap=True)
    verdict = "exact" if sight.exact else f"differs from token {sight.first_mismatch} on ({sight.diagnosis})"
    margin = f"smallest margin {min(sight.margins):.2f} logits at token {sight.margins.index(min(sight.margins))}"
    console.print(f"{verdict} in {sight.dtype}; {margin}", highlight=False)
