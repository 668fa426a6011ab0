"""The optimiser: one step for many slots, each at its own rate and with its own state.

Owns: Polyak's step, Adam and SGD, the rate, norm bounds, gradient alignment. Must not know: losses, when a slot ends.

Tensors of equal width are stacked row by row, so a pack of slots costs a handful of elementwise operations.
R rows of all tensors of one width, W their width.
"""

from typing import Any, NamedTuple

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
def update(lm: FrozenLM, slots: list[Slot], gradients: list[Parameters], excess_B: Tensor) -> None:
    """Move every slot by one step of its recipe's optimiser.

    Args:
        slots: slots to move; their tensors are replaced, never written into.
        gradients: of each slot's trained tensors, by name.
        excess_B: how far the losses are above the least they could be.
    Source: Adam: Kingma & Ba 2015, 1412.6980, algorithm 1; decoupled weight decay: Loshchilov & Hutter 2019,
    1711.05101. Step after Polyak 1987, bounded as by Berrada et al. 2020, 1906.05661; with momentum and along Adam's
    direction as by Schaipp et al. 2024, 2305.07583.
    """
    by_width: dict[int, list[Entry]] = {}
    for row, (slot, gradient) in enumerate(zip(slots, gradients, strict=True)):
        for name, grad in gradient.items():
            by_width.setdefault(grad.shape[-1] if grad.dim() else 1, []).append(Entry(row, slot, name, grad))
    stacks = [Stack(lm, entries, width) for width, entries in by_width.items()]
    falls_B = sum((stack.falls(len(slots)) for stack in stacks), torch.zeros_like(excess_B))
    for stack in stacks:
        stack.move(excess_B.clamp_min(0) / falls_B.clamp_min(1e-30))
    for slot in slots:
        slot.step += 1
        _bound(lm, slot)


class Entry(NamedTuple):
    """One trained tensor of the slot at `row`, and its gradient."""

    row: int
    slot: Slot
    name: str
    grad: Tensor


class Stack:
    """The trained tensors of one width, row by row, with their gradients, moments and per-slot numbers.

    SGD is Adam with a mean that does not forget by 1 - beta and no division; Adam's bias corrections fold into the rate
    and eps. Polyak's mean is of steps, not of gradients.
    """

    def __init__(self, lm: FrozenLM, entries: list[Entry], width: int):
        self._lm, self._entries, self._width = lm, entries, width
        self._sizes = [max(1, entry.grad.numel() // width) for entry in entries]
        rows = torch.tensor([entry.row for entry in entries])
        self._slot_R = rows.repeat_interleave(torch.tensor(self._sizes)).to(lm.device)
        self._optims = [entry.slot.recipe.optim for entry in entries]
        ages = [entry.slot.step - entry.slot.began + 1 for entry in entries]
        self._firsts = [1 - o.beta1**age for o, age in zip(self._optims, ages, strict=True)]
        roots = [(1 - o.beta2**age) ** 0.5 for o, age in zip(self._optims, ages, strict=True)]
        self._grad_RW = self._stacked([entry.grad for entry in entries])
        squares_RW = self._stacked([entry.slot.square[entry.name] for entry in entries])
        self._square_RW = torch.lerp(self._grad_RW.square(), squares_RW, self._rows([o.beta2 for o in self._optims]))
        sizes_RW = self._square_RW.sqrt() / self._rows(roots) + self._rows([o.eps for o in self._optims])
        is_sgd_R1 = self._rows([float(o.name == "sgd") for o in self._optims]) > 0
        self._size_RW = torch.where(is_sgd_R1, 1.0, sizes_RW)

    def falls(self, num_slots: int) -> Tensor:
        """How fast each slot's loss falls along its direction, (B,): the gradient's product with it."""
        fall_R = (self._grad_RW.square() / self._size_RW).sum(1)
        return torch.zeros(num_slots, device=fall_R.device).index_add(0, self._slot_R, fall_R)

    def move(self, step_B: Tensor) -> None:
        """Take each slot's step; `step_B` is what would bring its loss to 0."""
        rates = [learning_rate(e.slot.recipe, e.slot.clock) for e in self._entries]
        sizes = [rate * _unit(self._lm, e.slot, e.name) for rate, e in zip(rates, self._entries, strict=True)]
        rate_R1 = self._rows(sizes)
        # A step decays as the rate does, which bounds it.
        decay_R1 = self._rows([rate / o.lr for rate, o in zip(rates, self._optims, strict=True)])
        step_R1 = torch.minimum(step_B[self._slot_R][:, None] * decay_R1, rate_R1)
        is_polyak_R1 = self._rows([float(o.name == "polyak") for o in self._optims]) > 0
        beta1_R1 = self._rows([o.beta1 for o in self._optims])
        last_RW = self._stacked([e.slot.mean[e.name] for e in self._entries])
        steps_RW = beta1_R1 * last_RW + step_R1 * self._grad_RW / self._size_RW
        mean_RW = torch.where(is_polyak_R1, steps_RW, torch.lerp(self._grad_RW, last_RW, beta1_R1))
        gains = [1 / (1 - o.beta1) if o.name == "sgd" else 1 / first
                 for o, first in zip(self._optims, self._firsts, strict=True)]  # fmt: skip
        moved_RW = torch.where(is_polyak_R1, mean_RW, rate_R1 * self._rows(gains) * mean_RW / self._size_RW)
        value_RW = self._stacked([e.slot.trained[e.name] for e in self._entries])
        if any(o.weight_decay for o in self._optims):
            kept = [1 - rate * o.weight_decay for rate, o in zip(rates, self._optims, strict=True)]
            value_RW = value_RW * self._rows(kept)
        self._hand_out(value_RW - moved_RW, mean_RW, self._square_RW)

    def _stacked(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat([tensor.reshape(-1, self._width) for tensor in tensors])

    def _rows(self, values: list[float]) -> Tensor:
        column = torch.tensor(values, dtype=torch.float32).repeat_interleave(torch.tensor(self._sizes))
        return column[:, None].to(self._lm.device)

    def _hand_out(self, *stacked: Tensor) -> None:
        # Copies, in one kernel: a view would keep the whole pack in memory for as long as one slot's prompt is kept.
        split: Any = torch.split_with_sizes_copy
        for entry, value, mean, square in zip(self._entries, *(split(t, self._sizes) for t in stacked), strict=True):
            slot, name, shape = entry.slot, entry.name, entry.grad.shape
            slot.trained[name] = value.reshape(shape)
            slot.mean[name], slot.square[name] = mean.reshape(shape), square.reshape(shape)


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
