"""Decoding one token at a time: emit, read, leave when finished.

Owns: who still runs, what each has emitted, the sum of log-probabilities. Must not know: how a token is chosen.

B prompts, K soft-prompt vectors, D hidden size, R running texts, t tokens emitted so far, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.decoding.reader import Reader
from engine.decoding.strategy import Continuation
from engine.frozen_lm import FrozenLM

Choose = Callable[[Tensor, Tensor], Tensor]
"""`(told_Rt, logits_RV) -> next_R`: the next token of every running text."""


@dataclass
class Telling:
    """What B prompts have said so far.

    Attributes:
        running: the texts that go on, by their place in the batch; row r of every tensor is text `running[r]`.
    """

    end_id: int | None
    max_tokens: Sequence[int]
    running: list[int] = field(init=False)
    emitted: list[list[int]] = field(init=False)
    scores: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.running = list(range(len(self.max_tokens)))
        self.emitted = [[] for _ in self.max_tokens]
        self.scores = [0.0] * len(self.max_tokens)

    def tell(self, next_R: Tensor, gained_R: Tensor) -> list[int]:
        """Every running text emits a token and gains its log-probability; the rows that go on after it."""
        for b, token, gained in zip(self.running, next_R.tolist(), gained_R.tolist(), strict=True):
            self.emitted[b].append(token)
            self.scores[b] += gained
        going = [
            r for r, b in enumerate(self.running)
            if self.emitted[b][-1] != self.end_id and len(self.emitted[b]) < self.max_tokens[b]
        ]  # fmt: skip
        self.running = [self.running[r] for r in going]
        return going

    def continuations(self) -> list[Continuation]:
        return [Continuation(ids, score) for ids, score in zip(self.emitted, self.scores, strict=True)]


@torch.no_grad()
def token_by_token(
    lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int], choose: Choose
) -> list[Continuation]:
    """What each prompt says when `choose` names its tokens; the score is the sum of the model's own
    log-probabilities of them, nats."""
    reader, telling = Reader(lm, prompts), Telling(lm.token_rule.end_id, max_tokens)
    while telling.running:
        logits_RV = lm.head.logits(reader.hidden_RD)
        told = [telling.emitted[b] for b in telling.running]
        next_R = choose(torch.tensor(told, dtype=torch.long, device=lm.device), logits_RV)
        going = telling.tell(next_R, logits_RV.log_softmax(-1).gather(1, next_R[:, None]).squeeze(1))
        if going:
            reader.keep(going)
            reader.read(lm.embed(next_R[going]))
    return telling.continuations()
