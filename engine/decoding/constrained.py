"""Beam search among the texts of which a formula holds.

Owns: how literals are spelt in tokens, which tokens a hypothesis may go on with, how beams are shared out. Must not
know: targets, verdicts.

B prompts, K soft-prompt vectors, D hidden size, R running hypotheses of all texts, V vocabulary, A tokens named by the
formula.
Source: Lu et al. 2021, 2010.12884 (NeuroLogic). Ours: a hypothesis never gets further from the formula than its length
allows, so that the result satisfies it, and the phrases' next tokens are considered however unlikely.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Annotated, Literal

import torch
from pydantic import Field, StringConstraints
from torch import Tensor

from engine.decoding.beam import Beams, Candidate, Offer, run_beams
from engine.decoding.constraints import OTHER, Automaton, Occurs, State
from engine.decoding.strategy import Continuation, DecodingError, Strategy
from engine.frozen_lm import FrozenLM, TokenRule
from engine.target import encode


@dataclass
class ConstrainedBeams(Beams):
    """The search for one text: beams shared out among the sets of clauses that hold.

    Continuations are grouped by the clauses they satisfy. Within a group they are ranked by log-probability plus
    `partial_weight` times the share of an open clause's phrase with which they break off; the groups, the one of the
    best continuation first, then take turns.

    Attributes:
        automaton: the formula.
        partial_weight: nats for a phrase that lacks next to nothing.
        states: of the running hypotheses.
    """

    automaton: Automaton = field(kw_only=True)
    partial_weight: float = field(kw_only=True)
    states: list[State] = field(init=False)

    def __post_init__(self) -> None:
        self.states = [self.automaton.start]

    def advance(self, next_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]) -> list[int]:
        parents = super().advance(next_ids, log_probs)
        self.states = [
            self.automaton.step(self.states[parent], hypothesis.token_ids[-1])
            for parent, hypothesis in zip(parents, self.running, strict=True)
        ]
        return parents

    def rank(self, candidates: list[Candidate]) -> list[Candidate]:
        after = {(parent, token): self.automaton.step(self.states[parent], token) for _, parent, token in candidates}

        def promise(candidate: Candidate) -> float:
            return candidate[0] + self.partial_weight * self.automaton.progress(after[candidate[1:]])

        groups: dict[tuple[bool, ...], list[Candidate]] = defaultdict(list)
        for candidate in sorted(candidates, key=promise, reverse=True):
            groups[self.automaton.satisfied(after[candidate[1:]])].append(candidate)
        return [candidate for turn in zip_longest(*groups.values()) for candidate in turn if candidate is not None]

    def allows(self, state: State, token: int) -> bool:
        """Whether the formula can still hold within the length once a running hypothesis goes on with this token."""
        if token == self.end_id:
            return self.automaton.holds(state)
        num_left = self.max_tokens - len(self.running[0].token_ids) - 1
        return self.automaton.distance(self.automaton.step(state, token)) <= num_left

    def leads(self, state: State, token: int) -> bool:
        """Whether this token brings a hypothesis nearer to the formula."""
        return self.automaton.distance(self.automaton.step(state, token)) < self.automaton.distance(state)


class Constrained(Strategy):
    """Beam search in which every clause holds of the result; without clauses it is plain beam search.

    A literal counts as occurring where its tokens stand in the text in a row: those of the literal as it is written, or
    those of the literal behind a space, as phrases in the middle of a text begin in most vocabularies. Other spellings
    do not count: neither "Paris" that is spelt "Par", "is" though its own token exists, nor the one in "Parisian" where
    that is one token. So what must occur does occur as text (where tokens spell the same bytes wherever they stand),
    and what must not occur is kept out in these two spellings alone.
    """

    name: Literal["constrained"] = "constrained"
    width: int = Field(default=4, ge=1, le=256, description="hypotheses searched side by side")
    length_penalty: float = Field(
        default=1.0, ge=-8, le=8, description="score = log-probability / tokens ** length_penalty; above 0 favours long"
    )
    clauses: tuple[Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], Field(min_length=1)], ...] = (
        Field(
            default=(),
            description='each holds if one of its texts occurs, or with "!" before it does not; all of them must hold',
        )
    )
    partial_weight: float = Field(
        default=0.1, ge=0, le=100, description="nats a phrase gains as it is spelt out; 0 is off, large ones rush"
    )

    @torch.no_grad()
    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Score: log-probability over length to the power of the length penalty, nats."""
        automaton = self.compile(lm.token_rule)
        least, shortest = automaton.distance(automaton.start), min(max_tokens)
        if least > shortest:
            needs = f"needs at least {least}: raise the length or drop a clause"
            raise DecodingError(
                f"constrained.clauses = {self.clauses}: cannot be met in {shortest} tokens; "
                + (needs if least < math.inf else "they contradict one another: drop a clause")
            )
        searches = [
            ConstrainedBeams(
                self.width,
                limit,
                lm.token_rule.end_id,
                self.length_penalty,
                automaton=automaton,
                partial_weight=self.partial_weight,
            )
            for limit in max_tokens
        ]
        return run_beams(lm, prompts, searches, self._offer)

    def compile(self, token_rule: TokenRule) -> Automaton:
        """The clauses in a model's tokens."""
        formula = [[_spell(token_rule, literal) for literal in clause] for clause in self.clauses]
        try:
            return Automaton(formula, token_rule.end_id)
        except ValueError as error:
            raise DecodingError(f"constrained.{error}") from error

    def _offer(self, searches: Sequence[ConstrainedBeams], log_p_RV: Tensor) -> Offer:
        """The likeliest tokens among those allowed, and those that lead nearer to the formula."""
        rows = [(search, state) for search in searches for state in search.states]
        phrase_tokens, end_id = searches[0].automaton.tokens, searches[0].end_id
        named = phrase_tokens if end_id is None else [*phrase_tokens, end_id]
        may_RA = torch.tensor([[search.allows(state, token) for token in (OTHER, *named)] for search, state in rows])
        allowed_RV = may_RA[:, :1].repeat(1, log_p_RV.shape[1])
        allowed_RV[:, named] = may_RA[:, 1:]
        allowed_RV = allowed_RV.to(log_p_RV.device)
        top_RN = log_p_RV.masked_fill(~allowed_RV, -torch.inf).topk(min(2 * self.width, log_p_RV.shape[1])).indices
        may_RN = allowed_RV.gather(1, top_RN).tolist()
        offered = []
        for (search, state), top, may in zip(rows, top_RN.tolist(), may_RN, strict=True):
            likeliest = [token for token, is_allowed in zip(top, may, strict=True) if is_allowed]
            leading = [token for token in phrase_tokens if search.leads(state, token)]
            offered.append(list(dict.fromkeys(likeliest + leading)))
        return offered, [log_p_V[ids].tolist() for log_p_V, ids in zip(log_p_RV, offered, strict=True)]


def _spell(token_rule: TokenRule, literal: str) -> Occurs:
    """A literal in tokens: as it is written, and behind a space."""
    text = literal.removeprefix("!")
    if not text:
        raise DecodingError(f'constrained.clauses: {literal!r} names no text; write it behind the "!"')
    spellings = (text,) if text.startswith(" ") else (text, f" {text}")
    found = [tuple(encode(token_rule, spelling)) for spelling in spellings]
    known = [ids for ids in found if all(token < token_rule.num_embeddings for token in ids)]
    if not known:
        raise DecodingError(
            f"constrained.clauses: {literal!r} needs token {max(found[0])}, the model has {token_rule.num_embeddings} "
            "tokens; leave it out"
        )
    return Occurs(frozenset(known), text == literal)
