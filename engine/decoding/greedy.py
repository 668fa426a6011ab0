"""Greedy decoding: the most likely token, again and again.

Owns: free-running argmax decoding, a second look at what a certificate claims. Must not know: targets, losses.

B prompts, K soft-prompt vectors, D hidden size.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from engine.decoding.processors import Processors
from engine.decoding.reader import Reader
from engine.decoding.strategy import Continuation, Strategy
from engine.frozen_lm import FrozenLM


class Greedy(Strategy):
    """The argmax of the scores at every position."""

    name: Literal["greedy"] = "greedy"
    processors: Processors = Processors()

    @torch.no_grad()
    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Score: the sum of the emitted tokens' log-probabilities, penalties left out."""
        reader, running = Reader(lm, prompts), list(range(len(prompts)))
        emitted: list[list[int]] = [[] for _ in prompts]
        scores = [0.0] * len(prompts)
        while running:
            logits_RV = lm.head.logits(reader.hidden_RD)
            told_Rt = torch.tensor([emitted[b] for b in running], dtype=torch.long, device=lm.device)
            next_R = self.processors.apply(told_Rt, logits_RV).argmax(-1)
            gained_R = logits_RV.log_softmax(-1).gather(1, next_R[:, None]).squeeze(1)
            for b, token, gained in zip(running, next_R.tolist(), gained_R.tolist(), strict=True):
                emitted[b].append(token)
                scores[b] += gained
            going = [
                r for r, b in enumerate(running)
                if emitted[b][-1] != lm.tokens.end_id and len(emitted[b]) < max_tokens[b]
            ]  # fmt: skip
            running = [running[r] for r in going]
            if running:
                reader.keep(going)
                reader.read(lm.embed(next_R[going]))
        return [Continuation(ids, score) for ids, score in zip(emitted, scores, strict=True)]


def greedy(lm: FrozenLM, prompts: Iterable[Tensor], *, max_tokens: int) -> list[list[int]]:
    """Token ids the model emits after each soft prompt; the end-of-text token, where it comes, is the last one."""
    asked = list(prompts)
    return [c.token_ids for c in Greedy().decode(lm, asked, [max_tokens] * len(asked))]
