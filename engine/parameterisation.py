"""Parameterisations: how the K vectors are made of what is trained.

Owns: the trained tensors of each, how they start, the prompt they make, serving rounding. Must not know: losses, steps.

Whatever is trained starts so that it makes the start it is given (a mixture or a low rank comes as near as it can), and
only the prompt it makes is ever stored. K soft-prompt vectors, D hidden size, V vocabulary, R rank, H hidden units.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from engine.frozen_lm import DTYPES, FrozenLM
from engine.recipe.sections import ParameterisationRecipe

Parameters = dict[str, Tensor]

ROWS_AT_ONCE = 4096
"""Token embeddings held in float32 at once. Assumption."""


class Parameterisation(NamedTuple):
    """One way to make a prompt.

    Attributes:
        start: `(lm, start_KD, recipe, generator)` to (trained, constant) tensors by name.
        prompt: trained and constant tensors to (K, D), differentiable.
        units: what a learning rate of 1 means for each trained tensor.
    """

    start: Callable[[FrozenLM, Tensor, ParameterisationRecipe, torch.Generator], tuple[Parameters, Parameters]]
    prompt: Callable[[FrozenLM, Parameters], Tensor]
    units: Callable[[FrozenLM], dict[str, float]]


def _direct_start(lm, start_KD, recipe, generator):
    return {"prompt": start_KD}, {}


def _mlp_start(lm, start_KD, recipe, generator):
    hidden = max(1, round(recipe.width * lm.hidden_size))

    def uniform(rows: int, columns: int) -> Tensor:
        return ((torch.rand(rows, columns, generator=generator) * 2 - 1) / rows**0.5).to(lm.device)

    trained = {
        "input": start_KD / lm.embed_rms,
        "w1": uniform(lm.hidden_size, hidden),
        "b1": torch.zeros(hidden, device=lm.device),
        "w2": uniform(hidden, lm.hidden_size),
        "b2": torch.zeros(lm.hidden_size, device=lm.device),
    }
    return trained, {"anchor": start_KD - _mlp(lm, trained)}


def _mlp(lm: FrozenLM, tensors: Parameters) -> Tensor:
    hidden_KH = torch.tanh(tensors["input"] @ tensors["w1"] + tensors["b1"])
    return (hidden_KH @ tensors["w2"] + tensors["b2"]) * lm.embed_rms


def _low_rank_start(lm, start_KD, recipe, generator):
    mean_D = start_KD.mean(0)
    u_KK, size_K, v_KD = torch.linalg.svd(start_KD - mean_D, full_matrices=False)
    rank = min(recipe.rank, len(size_K))
    unit = lm.embed_rms * lm.hidden_size**0.5
    z_KR = torch.zeros(len(start_KD), recipe.rank, device=lm.device)
    z_KR[:, :rank] = u_KK[:, :rank] * size_K[:rank] / unit
    w_RD = torch.randn(recipe.rank, lm.hidden_size, generator=generator).to(lm.device) * lm.embed_rms
    w_RD[:rank] = v_KD[:rank] * unit
    return {"z": z_KR, "w": w_RD, "b": mean_D}, {}


def _convex_start(lm, start_KD, recipe, generator):
    return {"mixture": cosines(start_KD, lm.embedding.weight) * recipe.sharpness}, {}


def cosines(start_KD: Float[Tensor, "K D"], embedding_VD: Float[Tensor, "V D"]) -> Float[Tensor, "K V"]:
    """Of every vector with every token embedding, float32; a part of the table at a time."""
    unit_KD = normalize(start_KD, dim=-1)
    return torch.cat(
        [unit_KD @ normalize(part_CD.float(), dim=-1).T for part_CD in embedding_VD.split(ROWS_AT_ONCE)], 1
    )


PARAMETERISATIONS: dict[str, Parameterisation] = {
    # The vectors themselves.
    "direct": Parameterisation(_direct_start, lambda lm, p: p["prompt"], lambda lm: {"prompt": lm.embed_rms}),
    # `anchor + rms * (tanh(x W1 + b1) W2 + b2)`, the network discarded at the end. Li & Liang 2021, 2101.00190, 4.3.
    "mlp": Parameterisation(
        _mlp_start,
        lambda lm, p: p["anchor"] + _mlp(lm, p),
        lambda lm: dict.fromkeys(("input", "w1", "b1", "w2", "b2"), 0.01),
    ),
    # `z W + b` with z (K, R), W (R, D). After progressive cramming, Tarasov et al. 2026.
    "low_rank": Parameterisation(
        _low_rank_start,
        lambda lm, p: p["z"] @ p["w"] + p["b"],
        lambda lm: {"z": 1.0, "w": lm.embed_rms, "b": lm.embed_rms},
    ),
    # `softmax(mixture) @ E`: every vector a mixture of token embeddings.
    "convex": Parameterisation(
        _convex_start, lambda lm, p: lm.mix(p["mixture"].softmax(-1)), lambda lm: {"mixture": 1.0}
    ),
}


def serve(prompt_KD: Float[Tensor, "K D"], dtype: str) -> Float[Tensor, "K D"]:
    """The prompt as a server would store it, in float32 again; the gradient goes straight through.

    int8 keeps one scale a vector: `round(c / s) * s` with `s = max |c| / 127`.
    Source: straight-through estimator, Bengio et al. 2013, 1308.3432.
    """
    if dtype == "float32":
        return prompt_KD
    with torch.no_grad():
        if dtype == "int8":
            scale_K1 = prompt_KD.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            served_KD = (prompt_KD / scale_K1).round() * scale_K1
        else:
            served_KD = prompt_KD.to(DTYPES[dtype]).float()
    return _Through.apply(prompt_KD, served_KD)  # pyright: ignore[reportReturnType]


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, served: Tensor) -> Tensor:
        return served

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, None
