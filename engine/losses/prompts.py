"""Terms over the soft prompt itself: how far it is from what the model knows as input.

Owns: what vectors cost. Must not know: weights, schedules. K soft-prompt vectors, D hidden size, V vocabulary.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from engine.losses.view import View

HULL_STEPS = 8
"""Frank-Wolfe steps towards the nearest point of the hull. Assumption: the distance changes little after them."""


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
    return torch.stack([
        (text.prompt_KD - nearest[text.knobs.manifold](text.prompt_KD, _embeddings(view))).square().sum(1).mean() / unit
        for text in view.texts
    ])  # fmt: skip


@torch.no_grad()
def nearest_embedding(prompt_KD: Float[Tensor, "K D"], embedding_VD: Float[Tensor, "V D"]) -> Float[Tensor, "K D"]:
    """The token embedding nearest to each vector."""
    return embedding_VD[torch.cdist(prompt_KD, embedding_VD).argmin(1)]


@torch.no_grad()
def nearest_in_hull(prompt_KD: Float[Tensor, "K D"], embedding_VD: Float[Tensor, "V D"]) -> Float[Tensor, "K D"]:
    """A point of the embeddings' convex hull near each vector: Frank-Wolfe with exact line search from the nearest."""
    point_KD = nearest_embedding(prompt_KD, embedding_VD)
    for _ in range(HULL_STEPS):
        corner_KD = embedding_VD[((prompt_KD - point_KD) @ embedding_VD.T).argmax(1)]
        way_KD = corner_KD - point_KD
        length_K1 = ((prompt_KD - point_KD) * way_KD).sum(1, keepdim=True)
        share_K1 = (length_K1 / way_KD.square().sum(1, keepdim=True).clamp_min(1e-12)).clamp(0, 1)
        point_KD = point_KD + share_K1 * way_KD
    return point_KD


def _embeddings(view: View) -> Tensor:
    return view.lm.embedding.weight.float() * view.lm.embed_scale


def _surprise(view: View, prompt_KD: Tensor) -> Tensor:
    if len(prompt_KD) < 2:
        return prompt_KD.sum() * 0.0
    with torch.no_grad():
        hidden_KD = view.lm.hidden(prompt_KD[None].to(view.lm.dtype))[0]
        expected_KD = view.lm.mix(view.lm.head.logits(hidden_KD).softmax(-1))
    distance_K = (prompt_KD[1:] - expected_KD.narrow(0, 0, len(prompt_KD) - 1)).square().mean(1)
    return distance_K.mean() / view.lm.embed_rms**2
