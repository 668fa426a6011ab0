"""`verbatim decode`: what a stored prompt says under each strategy, beside what it should say.

Owns: one row decoded and measured. Must not know: how it is shown, the solver, the verifier.

K soft-prompt vectors, T target tokens, D hidden size.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from engine.decoding import Belief, Continuation, Strategy
from engine.frozen_lm import DTYPES, FrozenLM, TokenRule
from engine.model_source import ModelSource
from engine.monitors import diagnose, first_mismatch
from engine.target import Target, decode
from orchestrator.console.errors import UserError
from orchestrator.results import run_record
from orchestrator.results.ledger import Ledger
from orchestrator.results.stored_prompt import usable
from orchestrator.storage.location import Location
from orchestrator.verifiers.contract import SLACK_TOKENS


@dataclass(frozen=True)
class Believed:
    """What a strategy mixed at one step: the likeliest tokens, their shares in [0, 1], the entropy of all in nats."""

    token_ids: list[int]
    tokens: list[str]
    shares: list[float]
    entropy: float


@dataclass(frozen=True)
class Said:
    """What one strategy made of the prompt.

    Attributes:
        settings: of the strategy, all of them.
        says: the text, which is `right + wrong + rest`.
        right: what agrees with the target, up to the first token that does not.
        wrong: the text of that token; empty where there is none, or where it is the end-of-text token.
        first_mismatch: its index; T if there is none.
        diagnosis: what kind of failure it is, or exact.
        score: what the strategy says of its text, in its own unit.
        beliefs: one a generated token, of a strategy that reads mixtures; empty otherwise.
    """

    strategy: str
    settings: dict[str, Any]
    exact: bool
    first_mismatch: int
    diagnosis: str
    score: float
    says: str
    right: str
    wrong: str
    rest: str
    generated_ids: list[int]
    beliefs: list[Believed]


@dataclass(frozen=True)
class Weakest:
    """The target token with the smallest margin: its index, its text, its margin in logits."""

    token: int
    text: str
    margin: float


@dataclass(frozen=True)
class Sight:
    """A stored prompt's own words.

    Attributes:
        dtype: the model's numerics, here and now.
        margins: teacher-forced margin of each target token, logits.
        strategies: what each strategy said, in the order asked for.
    """

    id: str
    dtype: str
    target: str
    token_ids: list[int]
    margins: list[float]
    weakest: Weakest
    strategies: list[Said]


def look(folder: Location, id: str, *, strategies: Mapping[str, Strategy], dtype: str | None) -> Sight:
    """Decode one stored prompt with every strategy given.

    Raises:
        UserError: unknown dtype, folder or id; a row without a prompt, or with one that cannot be decoded.
        DecodingError: what a strategy is asked for cannot be had.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    record = run_record.require_record(folder)
    row = Ledger(folder).read_id(id)
    candidate = usable(row, record.model)
    dtype = dtype or record.model.solver_dtype
    disable_progress_bar()  # or the bar of the weights stands before the one line of a decoder's refusal
    source = ModelSource(record.model.name, record.model.revision)
    lm = FrozenLM.load(source, dtype=dtype, served_length=record.model.was_served)
    prompt_KD = torch.from_numpy(candidate.prompt_KD.copy())
    ends = candidate.token_ids[-1] == lm.token_rule.end_id
    target = Target(id, row["text"], candidate.token_ids, ends=ends)
    num_tokens = len(target.token_ids)
    limit = min(num_tokens + (SLACK_TOKENS if ends else 0), lm.token_rule.context - len(prompt_KD))
    said = [
        _said(lm.token_rule, target, strategy, strategy.decode(lm, [prompt_KD], [limit])[0], name)
        for name, strategy in strategies.items()
    ]
    margins = _margins(lm, prompt_KD, target)
    return Sight(
        id=id, dtype=dtype, target=target.text, token_ids=list(target.token_ids), margins=margins,
        weakest=_weakest(lm.token_rule, target, margins), strategies=said,
    )  # fmt: skip


def _said(token_rule: TokenRule, target: Target, strategy: Strategy, continuation: Continuation, name: str) -> Said:
    ids = continuation.token_ids
    mismatch = first_mismatch(ids, target.token_ids)
    says = decode(token_rule, ids)
    # A token may end within a character; then the character that it breaks is not right yet.
    right = os.path.commonprefix([says, decode(token_rule, ids[:mismatch])])
    wrong = (
        os.path.commonprefix([says, decode(token_rule, ids[: mismatch + 1])])[len(right) :] or says[len(right) :][:1]
    )
    return Said(
        strategy=name, settings=strategy.model_dump(mode="json", exclude={"name"}),
        exact=ids == list(target.token_ids), first_mismatch=mismatch, diagnosis=str(diagnose(ids, target)),
        score=round(continuation.score, 4), says=says,
        right=right, wrong=wrong, rest=says[len(right) + len(wrong) :], generated_ids=ids,
        beliefs=[_believed(token_rule, belief) for belief in continuation.beliefs],
    )  # fmt: skip


def _believed(token_rule: TokenRule, belief: Belief) -> Believed:
    return Believed(
        belief.token_ids, [str(token_rule.tokenizer.decode([token])) for token in belief.token_ids],
        [round(share, 4) for share in belief.shares], round(belief.entropy, 4),
    )  # fmt: skip


@torch.no_grad()
def _margins(lm: FrozenLM, prompt_KD: Tensor, target: Target) -> list[float]:
    scores_T = lm.score_targets([prompt_KD], [torch.tensor(target.token_ids)])
    return [round(margin, 4) for margin in scores_T.margin.tolist()]


def _weakest(token_rule: TokenRule, target: Target, margins: list[float]) -> Weakest:
    # not > 0 first: a margin that is not a number is no margin.
    token = min(range(len(margins)), key=lambda t: margins[t] if margins[t] == margins[t] else float("-inf"))
    return Weakest(token, str(token_rule.tokenizer.decode([target.token_ids[token]])), margins[token])
