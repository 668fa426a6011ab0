"""Latent decoding: the model reads the embedding that it expects, not that of one token.

Owns: the expected embedding, what is believed at each step. Must not know: targets, penalties, searches.

B prompts, K soft-prompt vectors, D hidden size, R running texts, N tokens told of a belief, V vocabulary.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from engine.decoding.likely import likely
from engine.decoding.reader import Reader
from engine.decoding.strategy import Belief, Continuation, Strategy
from engine.decoding.token_by_token import Telling
from engine.frozen_lm import FrozenLM

NUM_TOLD = 5
"""Likeliest tokens that a belief names."""


class Soft(Strategy):
    """Every step reads the expected embedding under its own distribution; no token is ever chosen for reading.

        p         = softmax(z / temperature) over the `top_k` likeliest tokens that have min_p of the top probability
        read next = sum over v of p(v) * embedding of v
        said      = argmax z, which is shown and decides the end, but is not what is read

    Towards temperature 0, and with `top_k` = 1, the model reads the likeliest token alone, which is greedy. It is the
    context policy `soft_decoding` without guidance.

    Source: Goyal et al. 2017, 1704.06970 (expected embeddings while training); Zhang et al. 2025, 2505.15778 (while
    decoding, with a stop at low entropy that is not here).
    """

    name: Literal["soft"] = "soft"
    temperature: float = Field(default=1.0, gt=0, le=100, description="of the softmax; towards 0 greedy, above 1 flat")
    top_k: int = Field(default=0, ge=0, description="likeliest tokens that are mixed; 0 is all, 1 is greedy")
    min_p: float = Field(default=0.0, ge=0, le=1, description="least share of the top probability; 1 is greedy")

    @torch.no_grad()
    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Score: the sum of the said tokens' log-probabilities along what was read, nats; temperature left out."""
        reader, telling = Reader(lm, prompts), Telling(lm.token_rule.end_id, max_tokens)
        beliefs: list[list[Belief]] = [[] for _ in prompts]
        while telling.running:
            logits_RV = lm.head.logits(reader.hidden_RD)
            p_RV = self.shares(logits_RV)
            for b, belief in zip(telling.running, _beliefs(p_RV), strict=True):
                beliefs[b].append(belief)
            top_log_p_R, said_R = logits_RV.log_softmax(-1).max(-1)
            going = telling.tell(said_R, top_log_p_R)
            if going:
                reader.keep(going)
                reader.read(lm.mix(p_RV[going]))
        return [
            Continuation(said.token_ids, said.score, tuple(believed))
            for said, believed in zip(telling.continuations(), beliefs, strict=True)
        ]

    def shares(self, logits_RV: Tensor) -> Tensor:
        """Share of every token (R, V) in what is read next."""
        top_k_R1, min_p_R1 = (logits_RV.new_full((len(logits_RV), 1), value) for value in (self.top_k, self.min_p))
        is_kept_RV = likely(logits_RV, top_k_R1, min_p_R1)
        return (logits_RV / self.temperature).masked_fill(~is_kept_RV, float("-inf")).softmax(-1)


def _beliefs(p_RV: Tensor) -> list[Belief]:
    entropy_R = torch.special.entr(p_RV).sum(-1)
    top_RN, ids_RN = p_RV.topk(min(NUM_TOLD, p_RV.shape[1]))
    return [
        Belief(ids, shares, entropy)
        for ids, shares, entropy in zip(ids_RN.tolist(), top_RN.tolist(), entropy_R.tolist(), strict=True)
    ]
