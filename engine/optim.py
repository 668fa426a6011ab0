"""The optimiser: one step for many slots, each at its own rate and with its own state.

Owns: Adam and SGD, the rate, norm bounds, gradient alignment. Must not know: losses, when a slot ends.

Tensors of equal width are stacked row by row, so a pack of slots costs a handful of elementwise operations.
R rows of all tensors of one width, W their width.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.parameterisation import PARAMETERISATIONS, Parameters
from engine.recipe import Recipe
from engine.schedules import decay_schedule
from engine.slots import Slot

AUXILIARY_UNITS = {"log_temperature": 0.05, "judge_weight": 0.05, "judge_bias": 0.05}
"""What a rate of 1 means for what is trained beside the prompt. Assumption."""


def learning_rate(recipe: Recipe, clock: float) -> float:
    """The recipe's rate at a slot's clock, in the recipe's unit."""
    optim = recipe.optim
    rate = decay_schedule(optim.decay, optim.lr, optim.lr * optim.final_lr_frac, recipe.max_steps)(clock)
    warmup = optim.warmup_frac * recipe.max_steps
    return rate * min(1.0, (clock + 1) / warmup) if warmup > 1 else rate


@torch.no_grad()
def update(lm: FrozenLM, slots: list[Slot], gradients: list[Parameters]) -> None:
    """Move every slot by one step of its recipe's optimiser.

    Args:
        slots: slots to move; their tensors are replaced, never written into.
        gradients: of each slot's trained tensors, by name.
    Source: Adam: Kingma & Ba 2015, 1412.6980, algorithm 1; decoupled weight decay: Loshchilov & Hutter 2019,
    1711.05101.
    """
    by_width: dict[int, list[tuple[Slot, str, Tensor]]] = {}
    for slot, gradient in zip(slots, gradients, strict=True):
        for name, grad in gradient.items():
            by_width.setdefault(grad.shape[-1] if grad.dim() else 1, []).append((slot, name, grad))
    for width, entries in by_width.items():
        _update_rows(lm, entries, width)
    for slot in slots:
        slot.step += 1
        _bound(lm, slot)


def _update_rows(lm: FrozenLM, entries: list[tuple[Slot, str, Tensor]], width: int) -> None:
    sizes = [max(1, grad.numel() // width) for _, _, grad in entries]
    optims = [slot.recipe.optim for slot, _, _ in entries]

    def stack(tensors: list[Tensor]) -> Tensor:
        return torch.cat([tensor.reshape(-1, width) for tensor in tensors])

    def rows(values: list[float]) -> Tensor:
        column = torch.tensor(values, dtype=torch.float32).repeat_interleave(torch.tensor(sizes))
        return column[:, None].to(lm.device)

    rates = [learning_rate(slot.recipe, slot.clock) * _unit(lm, slot, name) for slot, name, _ in entries]
    # SGD is the same two lines with a mean that does not forget by 1 - beta and no division. Adam's bias corrections
    # fold into the rate and eps, so two columns carry every per-slot number.
    is_sgd = [optim.name == "sgd" for optim in optims]
    ages = [slot.step - slot.began + 1 for slot, _, _ in entries]
    firsts = [1 - o.beta1**age for o, age in zip(optims, ages, strict=True)]
    roots = [(1 - o.beta2**age) ** 0.5 for o, age in zip(optims, ages, strict=True)]
    gains = [1 / (1 - o.beta1) if sgd else root / first
             for o, sgd, root, first in zip(optims, is_sgd, roots, firsts, strict=True)]  # fmt: skip
    grad_RW = stack([grad for _, _, grad in entries])
    value_RW = stack([slot.trained[name] for slot, name, _ in entries])
    mean_RW = torch.lerp(
        grad_RW, stack([slot.mean[name] for slot, name, _ in entries]), rows([o.beta1 for o in optims])
    )
    square_RW = torch.lerp(
        grad_RW.square(), stack([slot.square[name] for slot, name, _ in entries]), rows([o.beta2 for o in optims])
    )
    size_RW = square_RW.sqrt() + rows([o.eps * root for o, root in zip(optims, roots, strict=True)])
    if any(is_sgd):
        size_RW = torch.where(rows([float(sgd) for sgd in is_sgd]) > 0, 1.0, size_RW)
    if any(o.weight_decay for o in optims):
        kept = [1 - learning_rate(slot.recipe, slot.clock) * slot.recipe.optim.weight_decay for slot, _, _ in entries]
        value_RW = value_RW * rows(kept)
    value_RW = value_RW - rows([rate * gain for rate, gain in zip(rates, gains, strict=True)]) * mean_RW / size_RW
    # Copies, in one kernel: a view would keep the whole pack in memory for as long as one slot's prompt is kept.
    split: Any = torch.split_with_sizes_copy
    values, means, squares = (split(t, sizes) for t in (value_RW, mean_RW, square_RW))
    for (slot, name, grad), value, mean, square in zip(entries, values, means, squares, strict=True):
        slot.trained[name] = value.reshape(grad.shape)
        slot.mean[name], slot.square[name] = mean.reshape(grad.shape), square.reshape(grad.shape)


def _unit(lm: FrozenLM, slot: Slot, name: str) -> float:
    if name in AUXILIARY_UNITS:
        return AUXILIARY_UNITS[name]
    if slot.recipe.optim.unit == "absolute":
        return 1.0
    return PARAMETERISATIONS[slot.recipe.parameterisation.name].units(lm)[name]


def _bound(lm: FrozenLM, slot: Slot) -> None:
    """Scale down vectors longer than the recipe allows; direct parameterisation only."""
    limit = slot.recipe.optim.max_rms * lm.embed_rms
    if limit and "prompt" in slot.trained:
        prompt_KD = slot.trained["prompt"]
        rms_K1 = prompt_KD.square().mean(1, keepdim=True).sqrt()
        slot.trained["prompt"] = prompt_KD * (limit / rms_K1.clamp_min(limit))


def aligned(gradient: Float[Tensor, "..."], reference: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The gradient without what opposes the reference: `g - min(0, g.r) / |r|**2 * r`.

    Source: ProGrad, Zhu et al. 2023, 2205.14865, equation 4.
    """
    dot = (gradient * reference).sum()
    return gradient - dot.clamp_max(0) / reference.square().sum().clamp_min(1e-30) * reference
