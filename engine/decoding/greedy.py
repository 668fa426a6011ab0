"""Greedy decoding: the most likely token, again and again.

Owns: free-running argmax decoding, a second look at what a certificate claims. Must not know: targets, losses.

B prompts, K soft-prompt vectors, D hidden size.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor

from engine.decoding.processors import Processors
from engine.decoding.strategy import Continuation, Strategy
from engine.decoding.token_by_token import token_by_token
from engine.frozen_lm import FrozenLM


class Greedy(Strategy):
    """The argmax of the scores at every position."""

    name: Literal["greedy"] = "greedy"
    processors: Processors = Processors()

    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Score: the sum of the emitted tokens' log-probabilities, penalties left out."""
        return token_by_token(
            lm, prompts, max_tokens, lambda told_Rt, logits_RV: self.processors.apply(told_Rt, logits_RV).argmax(-1)
        )


def greedy(lm: FrozenLM, prompts: Iterable[Tensor], *, max_tokens: int) -> list[list[int]]:
    """Token ids the model emits after each soft prompt; the end-of-text token, where it comes, is the last one."""
    asked = list(prompts)
    return [c.token_ids for c in Greedy().decode(lm, asked, [max_tokens] * len(asked))]
