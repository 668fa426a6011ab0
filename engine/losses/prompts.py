"""Terms over the soft prompt itself: how far it is from what the model knows as input.

Owns: what vectors cost. Must not know: weights, schedules. K soft-prompt vectors, D hidden size, V vocabulary.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.losses.view import View

HULL_STEPS = 8
"""Frank-Wolfe steps towards the nearest point of the hull. Assumption: the distance changes little after them."""

ROWS_AT_ONCE = 4096
"""Token embeddings held in float32 at once: 64 MiB at a width of 4,096, where a whole table is 2 GiB. Assumption."""


def prompt_perplexity(view: View) -> Float[Tensor, "B"]:
    """Mean over k >= 1 of `|c_k - p_k @ E|**2 / (D * rms**2)`, p_k what the model expects after c_0 ... c_{k-1}.

    The squared distance to the expected next embedding, in units of the embedding's size; 0 for a single vector.
    The expectation carries no gradient. Source: ours.
    """
    return torch.stack([_surprise(view, text.prompt_KD) for text in view.texts])


def manifold(view: View) -> Float[Tensor, "B"]:
    """Mean over k of `|c_k - nearest|**2 / (D * rms**2)`: to the nearest token embedding, or to their convex hull.

    Source: ours; the hull's nearest point by Frank & Wolfe 1956.
    """
    unit = view.lm.hidden_size * view.lm.embed_rms**2
    nearest = {"nearest": nearest_embedding, "hull": nearest_in_hull}
    weight_VD, scale = view.lm.embedding.weight, view.lm.embed_scale
    return torch.stack([
        (text.prompt_KD - nearest[text.knobs.manifold](text.prompt_KD, weight_VD, scale)).square().sum(1).mean() / unit
        for text in view.texts
    ])  # fmt: skip


@torch.no_grad()
def nearest_embedding(
    prompt_KD: Float[Tensor, "K D"], embedding_VD: Float[Tensor, "V D"], scale: float = 1.0
) -> Float[Tensor, "K D"]:
    """The token embedding nearest to each vector, float32; `scale` is what the embedding module multiplies with."""
    # The nearest e to c has the largest c.e - |e|**2 / 2.
    best_K = _best(embedding_VD, scale, lambda e_CD: prompt_KD @ e_CD.T - e_CD.square().sum(1) / 2)
    return embedding_VD[best_K].float() * scale


@torch.no_grad()
def nearest_in_hull(
    prompt_KD: Float[Tensor, "K D"], embedding_VD: Float[Tensor, "V D"], scale: float = 1.0
) -> Float[Tensor, "K D"]:
    """A point of the embeddings' convex hull near each vector: Frank-Wolfe with exact line search from the nearest."""
    point_KD = nearest_embedding(prompt_KD, embedding_VD, scale)
    for _ in range(HULL_STEPS):
        away_KD = prompt_KD - point_KD
        best_K = _best(embedding_VD, scale, lambda e_CD, away_KD=away_KD: away_KD @ e_CD.T)
        way_KD = embedding_VD[best_K].float() * scale - point_KD
        length_K1 = (away_KD * way_KD).sum(1, keepdim=True)
        share_K1 = (length_K1 / way_KD.square().sum(1, keepdim=True).clamp_min(1e-12)).clamp(0, 1)
        point_KD = point_KD + share_K1 * way_KD
    return point_KD


def _best(embedding_VD: Tensor, scale: float, score: Callable[[Tensor], Tensor]) -> Int[Tensor, "K"]:
    """Token with the largest score, a (K, C) of C embeddings, for each vector; a part of the table at a time."""
    values, tokens = [], []
    for number, part_CD in enumerate(embedding_VD.split(ROWS_AT_ONCE)):
        value_K, token_K = score(part_CD.float() * scale).max(1)
        values.append(value_K)
        tokens.append(token_K + number * ROWS_AT_ONCE)
    return torch.stack(tokens).gather(0, torch.stack(values).argmax(0)[None])[0]


def _surprise(view: View, prompt_KD: Tensor) -> Tensor:
    if len(prompt_KD) < 2:
        return prompt_KD.sum() * 0.0
    with torch.no_grad():
        hidden_KD = view.lm.hidden(prompt_KD[None].to(view.lm.dtype))[0]
        expected_KD = view.lm.mix(view.lm.head.logits(hidden_KD).softmax(-1))
    distance_K = (prompt_KD[1:] - expected_KD.narrow(0, 0, len(prompt_KD) - 1)).square().mean(1)
    return distance_K.mean() / view.lm.embed_rms**2
