"""Products with a half-precision weight, in float32: accumulated there, and not rounded on the way out.

Owns: how each device gets them. Must not know: logits, losses.

A bfloat16 product that is returned in bfloat16 lies on a grid of 0.125 between 16 and 32: logits tie there that do
not tie, and a margin means little. N rows, V weight rows, D their width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_ELEMENTS = 1 << 20
"""Weight entries converted at once where no kernel mixes dtypes: 4 MiB in float32, which a cache holds.
Measured 2026-11-25 on one core without bfloat16 instructions: a quarter of the time of torch's bfloat16 product."""


def from_states(hidden_ND: Float[Tensor, "N D"], weight_VD: Float[Tensor, "V D"]) -> Float[Tensor, "N V"]:
    """`hidden @ weight.T`, differentiable in `hidden`; float32 (float64 for a float64 weight)."""
    if _is_exact(weight_VD):
        return hidden_ND @ weight_VD.T
    return _FromStates.apply(hidden_ND, weight_VD)  # pyright: ignore[reportReturnType]


def to_states(pull_NV: Float[Tensor, "N V"], weight_VD: Float[Tensor, "V D"]) -> Float[Tensor, "N D"]:
    """`pull @ weight`, no gradient: the way back of `from_states`. `pull` is rounded to the weight's dtype."""
    pull_NV = pull_NV.to(weight_VD.dtype)
    if _is_exact(weight_VD):
        return pull_NV @ weight_VD
    if weight_VD.is_cuda:
        return torch.mm(pull_NV, weight_VD, out_dtype=torch.float32)
    product_ND = torch.zeros(len(pull_NV), weight_VD.shape[1], device=pull_NV.device)
    for first, block in _blocks(weight_VD):
        product_ND += pull_NV[:, first : first + len(block)].float() @ block.float()
    return product_ND


class _FromStates(torch.autograd.Function):
    """A function of its own, so that no float32 copy of the weight waits for the way back."""

    @staticmethod
    def forward(ctx, hidden_ND: Tensor, weight_VD: Tensor) -> Tensor:
        ctx.save_for_backward(weight_VD)
        ctx.dtype = hidden_ND.dtype
        if weight_VD.is_cuda:
            return torch.mm(hidden_ND, weight_VD.T, out_dtype=torch.float32)
        product_NV = torch.empty(len(hidden_ND), len(weight_VD), device=hidden_ND.device)
        for first, block in _blocks(weight_VD):
            product_NV[:, first : first + len(block)] = hidden_ND.float() @ block.float().T
        return product_NV

    @staticmethod
    def backward(ctx, grad_NV: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (weight_VD,) = ctx.saved_tensors
        return to_states(grad_NV, weight_VD).to(ctx.dtype), None


def _is_exact(weight_VD: Tensor) -> bool:
    return weight_VD.dtype in (torch.float32, torch.float64)


def _blocks(weight_VD: Tensor) -> list[tuple[int, Tensor]]:
    """Rows of the weight, a block at a time, each with the number of its first one."""
    rows = max(1, BLOCK_ELEMENTS // weight_VD.shape[1])
    return [(first, weight_VD[first : first + rows]) for first in range(0, len(weight_VD), rows)]
