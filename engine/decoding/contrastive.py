"""Contrastive search: a likely token whose state does not resemble what has been read.

Owns: the choice among the likeliest tokens, the states of everything read. Must not know: targets, penalties.

B prompts, K soft-prompt vectors, D hidden size, R running texts, C candidates a text, S positions read, V vocabulary.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from engine.decoding.reader import Reader
from engine.decoding.strategy import Continuation, Strategy
from engine.decoding.token_by_token import Telling
from engine.frozen_lm import FrozenLM


class Contrastive(Strategy):
    """At every position the candidate of the best balance of probability and novelty.

        next = argmax over the top_k likeliest v of  (1 - alpha) * p(v) - alpha * max over j of cos(h_v, h_j)

    h_v is the last hidden state after reading v; h_j are those of everything read before it, soft prompt included,
    padding excluded. Every candidate is read, so a text reads one position more than with greedy decoding.
    alpha = 0 and top_k = 1 are greedy.

    Source: contrastive search, Su et al. 2022, 2202.06417; top_k 5-10 and alpha 0.5-0.8 are the paper's values.
    """

    name: Literal["contrastive"] = "contrastive"
    top_k: int = Field(default=5, ge=1, le=256, description="candidates a position; cache rows grow by this factor")
    alpha: float = Field(default=0.6, ge=0, le=1, description="weight of the resemblance penalty; 0 is greedy")

    @torch.no_grad()
    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Score: the sum of the emitted tokens' log-probabilities, nats."""
        reader, telling = Reader(lm, prompts), Telling(lm.token_rule.end_id, max_tokens)
        past_RSD = _direction(reader.prompt_hidden_RKD)
        num_candidates = min(self.top_k, lm.vocab_size)
        while telling.running:
            log_p_RC, ids_RC = lm.head.logits(reader.hidden_RD).log_softmax(-1).topk(num_candidates)
            reader.keep([r for r in range(len(ids_RC)) for _ in range(num_candidates)])
            hidden_RCD = reader.read(lm.embed(ids_RC.flatten())).unflatten(0, ids_RC.shape)
            novel_RCD = _direction(hidden_RCD)
            pads_R = reader.pads_R[::num_candidates]
            value_RC = (1 - self.alpha) * log_p_RC.exp() - self.alpha * _resemblance(novel_RCD, past_RSD, pads_R)
            rows_R, best_R = torch.arange(len(ids_RC), device=lm.device), value_RC.argmax(1)
            going = telling.tell(ids_RC[rows_R, best_R], log_p_RC[rows_R, best_R])
            past_RSD = torch.cat([past_RSD, novel_RCD[rows_R, best_R][:, None]], 1)[going]
            if going:
                reader.keep((rows_R * num_candidates + best_R)[going].tolist())
        return telling.continuations()


def _direction(hidden: Tensor) -> Tensor:
    """Hidden states at unit length, float32."""
    return torch.nn.functional.normalize(hidden.float(), dim=-1)


def _resemblance(novel_RCD: Tensor, past_RSD: Tensor, pads_R: Tensor) -> Tensor:
    """Largest cosine of each candidate (R, C) with what its text has read; the first `pads_R` columns are padding."""
    cosine_RCS = novel_RCD @ past_RSD.mT
    is_padding_RS = torch.arange(past_RSD.shape[1], device=pads_R.device) < pads_R[:, None]
    return cosine_RCS.masked_fill(is_padding_RS[:, None], float("-inf")).amax(-1)
