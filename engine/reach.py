"""How surely a model can say a token at all: a bound on the token's margin, from the rows of the output.

Owns: the bound. Must not know: texts, slots, which margin is asked for.

Token t leads token v by (w_t - w_v) . h + b_t - b_v logits, at most |w_t - w_v| |h| + b_t - b_v. Tokens that no
training text held keep rows that hardly differ: a model can prefer one of them to all other tokens and still not tell
it from its like. The token that ends a text is such a one in models trained on texts that follow each other without it.

U tokens, V vocabulary, D hidden size.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine.head import Head

NEAREST = 8
"""Rows looked at exactly: products of float32 find the nearest, and cannot tell how near it is. Assumption."""


ALIKE = 0.1
"""Logits below which the most that a token can lead by says that it has its like. Assumption; the least of any token is
4.1 on the embedded model, and 0.004 on a model with tokens that training never met."""

REACHED_FRAC = 0.05
"""Share of that most at which such a token counts as said surely: it leads some hundred like it at once. Measured, LOG
2026-11-26: 0.07 in the median."""

NUM_TOKENS = 64
"""Tokens on which the length of hidden states is measured; most models end in a norm, so that it hardly varies.
Assumption."""

ROWS_AT_ONCE = 4096
"""Rows of the output that are looked at in float32 together. Assumption."""


class Reach:
    """Bounds on margins, each token's worked out once.

    Args:
        head: the model's output rule.
        longest: norm that last hidden states come to.
    """

    def __init__(self, head: Head, longest: float):
        self._head = head
        self._longest = longest
        # A part at a time: a float32 copy of a large vocabulary is gigabytes that nobody planned for.
        parts = head.weight_VD.split(ROWS_AT_ONCE)
        self._squares_V = torch.cat([part_RD.float().square().sum(1) for part_RD in parts])
        self._known: dict[int, float] = {}

    def of(self, token_ids: Sequence[int]) -> float:
        """The largest margin that the hardest of these tokens can have, logits; a softcap only lowers it."""
        if new := sorted(set(token_ids) - self._known.keys()):
            self._known |= zip(new, self._bounds(new), strict=True)
        return min(self._known[token] for token in token_ids)

    @torch.no_grad()
    def _bounds(self, tokens: list[int]) -> list[float]:
        weight_VD = self._head.weight_VD
        tokens_U = torch.tensor(tokens, device=weight_VD.device)
        parts = [self._bounds_of(part_U) for part_U in tokens_U.split(self._head.rows_at_once)]
        return torch.cat(parts).tolist()

    def _bounds_of(self, tokens_U: Tensor) -> Tensor:
        weight_VD, bias_V = self._head.weight_VD, self._head.bias_V
        far_UV = self._squares_V - 2 * (weight_VD[tokens_U] @ weight_VD.T).float()
        far_UV.scatter_(1, tokens_U[:, None], float("inf"))
        near_UN = far_UV.topk(min(NEAREST, far_UV.shape[1] - 1), largest=False).indices
        lead_UN = (weight_VD[tokens_U, None].float() - weight_VD[near_UN].float()).norm(dim=-1) * self._longest
        if bias_V is not None:
            lead_UN = lead_UN + bias_V[tokens_U, None].float() - bias_V[near_UN].float()
        return lead_UN.amin(1) * self._head.scale


def enough(reach: float) -> float:
    """The margin with which a text is done whose hardest token can have so much; infinite where none has its like."""
    return reach * REACHED_FRAC if reach < ALIKE else math.inf


@torch.no_grad()
def longest_state(lm: Any) -> float:
    """The norm that last hidden states of a `FrozenLM` come to, on a text of any tokens."""
    token_ids = torch.arange(min(NUM_TOKENS, lm.vocab_size, lm.token_rule.context), device=lm.device)
    return lm.hidden(lm.embed(token_ids)[None]).float().norm(dim=-1).max().item()
