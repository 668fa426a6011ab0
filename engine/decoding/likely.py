"""Which tokens of a distribution are likely enough.

Owns: top-k and min-p. Must not know: what is done with those tokens.

B texts, V vocabulary.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def likely(
    logits_BV: Float[Tensor, "B V"], top_k_B1: Float[Tensor, "B 1"], min_p_B1: Float[Tensor, "B 1"]
) -> Bool[Tensor, "B V"]:
    """Tokens within the top k and at least min_p of the top probability. 0 keeps all; ties at rank k are kept."""
    kept_BV = logits_BV >= logits_BV.amax(-1, keepdim=True) + min_p_B1.log()
    if (top_k_B1 > 0).any():
        rank_B1 = torch.where(top_k_B1 > 0, top_k_B1, logits_BV.shape[1]).long().clamp_max(logits_BV.shape[1]) - 1
        sorted_BV = logits_BV.detach().sort(-1, descending=True).values
        kept_BV = kept_BV & (logits_BV >= sorted_BV.gather(1, rank_B1))
    return kept_BV
