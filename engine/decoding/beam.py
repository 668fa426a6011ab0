"""Beam search: the state of one text's search, and the search over the frozen model.

Owns: which hypotheses live, which are finished, when a search is over. `Beams` knows no model: whoever can name the
likeliest next tokens of a hypothesis (this engine, another one) can drive it.

B prompts, K soft-prompt vectors, D hidden size, R running hypotheses of all texts, V vocabulary.
Source: the end-of-text rule, the length penalty and the early stop are those of transformers' `generate`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from engine.decoding.processors import Processors
from engine.decoding.reader import Reader
from engine.decoding.strategy import Continuation, Strategy
from engine.frozen_lm import FrozenLM


@dataclass(frozen=True)
class Hypothesis:
    """A running text: its tokens, and the sum of their log-probabilities in nats."""

    token_ids: tuple[int, ...] = ()
    log_prob: float = 0.0


Candidate = tuple[float, int, int]
"""A continuation: its log-probability in nats, the index of the hypothesis it continues, the token it adds."""


@dataclass
class Beams:
    """The search for one text.

    Each step takes the `num_next` likeliest continuations of every running hypothesis, ranks all of them by
    log-probability, finishes those of the first `width` that end, and runs on with the first `width` that do not.

    Attributes:
        width: hypotheses that run and that may be finished.
        max_tokens: tokens at which a hypothesis is finished, ended or not.
        end_id: end-of-text token, or None.
        length_penalty: a finished text's score is `log_prob / tokens ** length_penalty`; above 0 longer ones gain.
        early_stopping: stop as soon as `width` texts are finished, whatever the running ones may reach.
        running: hypotheses that go on, best first.
        finished: finished texts by score, best first, at most `width`.
    """

    width: int
    max_tokens: int
    end_id: int | None
    length_penalty: float = 1.0
    early_stopping: bool = False
    running: list[Hypothesis] = field(default_factory=lambda: [Hypothesis()])
    finished: list[Continuation] = field(default_factory=list)

    @property
    def num_next(self) -> int:
        """Continuations asked for of each hypothesis: enough for `width` to run on if all the best ones end."""
        return 2 * self.width

    @property
    def is_done(self) -> bool:
        return not self.running

    @property
    def best(self) -> Continuation:
        """The finished text of the highest score."""
        return self.finished[0]

    def advance(self, next_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]) -> list[int]:
        """One step.

        Args:
            next_ids: for each running hypothesis the ids of its likeliest next tokens, best first.
            log_probs: their log-probabilities, nats.
        Returns:
            For each hypothesis that runs on, the index of the one it continues.
        """
        candidates = [
            (hypothesis.log_prob + log_prob, parent, token)
            for parent, hypothesis in enumerate(self.running)
            for token, log_prob in zip(next_ids[parent], log_probs[parent], strict=True)
        ]
        ranked = self.rank(candidates)[: self.num_next]
        grown = [(Hypothesis((*self.running[p].token_ids, token), total), p) for total, p, token in ranked]
        num_tokens = len(grown[0][0].token_ids)
        for hypothesis, _ in grown[: self.width]:
            if self._ends(hypothesis):
                score = hypothesis.log_prob / num_tokens**self.length_penalty
                self.finished.append(Continuation(list(hypothesis.token_ids), score))
        self.finished = sorted(self.finished, key=lambda text: -text.score)[: self.width]
        going = [pair for pair in grown if not self._ends(pair[0])][: self.width]
        if self._is_settled([hypothesis.log_prob for hypothesis, _ in going], num_tokens):
            going = []
        self.running = [hypothesis for hypothesis, _ in going]
        return [parent for _, parent in going]

    def rank(self, candidates: list[Candidate]) -> list[Candidate]:
        """The order in which continuations are considered: the likeliest first."""
        return sorted(candidates, key=lambda candidate: -candidate[0])

    def _ends(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.token_ids[-1] == self.end_id or len(hypothesis.token_ids) == self.max_tokens

    def _is_settled(self, going: list[float], num_tokens: int) -> bool:
        """Whether the likeliest running hypothesis, were it finished here, would not displace a finished text."""
        if not going:
            return True
        if len(self.finished) < self.width:
            return False
        return self.early_stopping or max(going) / num_tokens**self.length_penalty <= self.finished[-1].score


Search = TypeVar("Search", bound=Beams)

Offer = tuple[list[list[int]], list[list[float]]]
"""Next tokens for each of R hypotheses, and their log-probabilities in nats."""


def run_beams(
    lm: FrozenLM,
    prompts: Sequence[Tensor],
    searches: Sequence[Search],
    offer: Callable[[list[Search], Tensor], Offer],
) -> list[Continuation]:
    """Drive one search a soft prompt over the frozen model, all side by side; a search that is done leaves.

    Args:
        lm: the frozen model.
        prompts: B soft prompts (K_b, D).
        searches: B searches, not begun.
        offer: `(searches that run, log-probabilities (R, V) of all their hypotheses' next tokens) -> what to consider`.
    Returns:
        The best finished text of every search.
    """
    reader, running = Reader(lm, prompts), list(searches)
    while running:
        ids, log_probs = offer(running, lm.head.logits(reader.hidden_RD).log_softmax(-1))
        parents, start = [], 0
        for search in running:
            end = start + len(search.running)
            parents += [start + parent for parent in search.advance(ids[start:end], log_probs[start:end])]
            start = end
        running = [search for search in running if not search.is_done]
        if running:
            reader.keep(parents)
            last_R = torch.tensor([hypothesis.token_ids[-1] for search in running for hypothesis in search.running])
            reader.read(lm.embed(last_R.to(lm.device)))
    return [search.best for search in searches]


class Beam(Strategy):
    """The finished text of the highest score among `width` searched side by side; width 1 is greedy."""

    name: Literal["beam"] = "beam"
    width: int = Field(default=4, ge=1, le=256, description="hypotheses searched side by side")
    length_penalty: float = Field(
        default=1.0, ge=-8, le=8, description="score = log-probability / tokens ** length_penalty; above 0 favours long"
    )
    early_stopping: bool = Field(default=False, description="stop when width texts are finished, better ones or not")
    processors: Processors = Processors()

    @torch.no_grad()
    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Score: log-probability over length to the power of the length penalty, nats."""
        searches = [self.search(limit, lm.token_rule.end_id) for limit in max_tokens]
        return run_beams(lm, prompts, searches, self._likeliest)

    def _likeliest(self, searches: Sequence[Beams], log_p_RV: Tensor) -> Offer:
        told_Rt = [hypothesis.token_ids for search in searches for hypothesis in search.running]
        scores_RV = self.processors.apply(torch.tensor(told_Rt, dtype=torch.long, device=log_p_RV.device), log_p_RV)
        top_RN, ids_RN = scores_RV.topk(min(2 * self.width, scores_RV.shape[1]))
        return ids_RN.tolist(), top_RN.tolist()

    def search(self, max_tokens: int, end_id: int | None) -> Beams:
        """The search for one text, not begun."""
        return Beams(self.width, max_tokens, end_id, self.length_penalty, self.early_stopping)
