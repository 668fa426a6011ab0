"""The optimiser: one step for many slots, each at its own rate and with its own state.

Owns: Polyak's step, Adam and SGD, the rate, norm bounds, gradient alignment. Must not know: losses, when a slot ends.

All slots of a pass are stepped together, by stacks of rows (`engine.stacks`): a handful of elementwise operations.
R rows of a stack, W their width, B slots.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.parameterisation import PARAMETERISATIONS
from engine.recipe import Recipe
from engine.schedules import decay_schedule
from engine.slots import Slot
from engine.stacks import Entry, Stack

AUXILIARY_UNITS = {"log_temperature": 0.05, "judge_weight": 0.05, "judge_bias": 0.05}
"""What a rate of 1 means for what is trained beside the prompt. Assumption."""


def learning_rate(recipe: Recipe, clock: float) -> float:
    """The recipe's rate at a slot's clock, in the recipe's unit."""
    optim = recipe.optim
    rate = decay_schedule(optim.decay, optim.lr, optim.lr * optim.final_lr_frac, recipe.max_steps)(clock)
    warmup = optim.warmup_frac * recipe.max_steps
    return rate * min(1.0, (clock + 1) / warmup) if warmup > 1 else rate


@torch.no_grad()
def update(lm: FrozenLM, stacks: list[Stack], gradients: list[Tensor], excess_B: Tensor, moving: list[Slot]) -> None:
    """Move slots by one step of their recipes' optimisers.

    Args:
        stacks: of all slots of a pass; the slots' tensors are replaced, never written into.
        gradients: of each stack.
        excess_B: how far the losses are above the least they could be.
        moving: slots to move; the others stay as they are.
    Source: Adam: Kingma & Ba 2015, 1412.6980, algorithm 1; decoupled weight decay: Loshchilov & Hutter 2019,
    1711.05101. Step after Polyak 1987, bounded as by Berrada et al. 2020, 1906.05661; with momentum and along Adam's
    direction as by Schaipp et al. 2024, 2305.07583.
    """
    steps = [_Step(lm, stack, grad_RW) for stack, grad_RW in zip(stacks, gradients, strict=True)]
    falls_B = sum((step.falls(len(excess_B)) for step in steps), torch.zeros_like(excess_B))
    length_B = excess_B.clamp_min(0) / falls_B.clamp_min(1e-30)
    kept = set(map(id, moving))
    for step in steps:
        for entry, (value, mean, square) in step.stack.parts(*step.take(length_B)):
            if id(entry.slot) in kept:
                slot, name = entry.slot, entry.name
                slot.trained[name], slot.mean[name], slot.square[name] = value, mean, square
    for slot in moving:
        slot.step += 1


class _Step:
    """One step of a stack: its moments, and its per-row numbers.

    SGD is Adam with a mean that does not forget by 1 - beta and no division; Adam's bias corrections fold into the rate
    and eps. Polyak's mean is of steps, not of gradients.
    """

    def __init__(self, lm: FrozenLM, stack: Stack, grad_RW: Tensor):
        self.stack, self._grad_RW = stack, grad_RW
        numbers = stack.columns([_numbers(lm, entry) for entry in stack.entries])
        self._numbers = _Numbers(*numbers)
        self._decays = any(entry.slot.recipe.optim.weight_decay for entry in stack.entries)
        self._bounds = any(entry.slot.recipe.optim.max_rms for entry in stack.entries)
        self._square_RW = torch.lerp(grad_RW.square(), stack.gathered("square"), self._numbers.beta2)
        sizes_RW = self._square_RW.sqrt() / self._numbers.root + self._numbers.eps
        self._size_RW = torch.where(self._numbers.is_sgd > 0, 1.0, sizes_RW)

    def falls(self, num_slots: int) -> Tensor:
        """How fast each slot's loss falls along its direction, (B,): the gradient's product with it."""
        return self.stack.by_slot((self._grad_RW.square() / self._size_RW).sum(1), num_slots)

    def take(self, length_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values, means and squares after the step; `length_B` is what would bring a slot's loss to 0."""
        numbers = self._numbers
        # A step decays as the rate does, which bounds it.
        step_R1 = torch.minimum(length_B[self.stack.slot_R][:, None] * numbers.decay, numbers.rate)
        last_RW = self.stack.gathered("mean")
        steps_RW = numbers.beta1 * last_RW + step_R1 * self._grad_RW / self._size_RW
        is_polyak_R1 = numbers.is_polyak > 0
        mean_RW = torch.where(is_polyak_R1, steps_RW, torch.lerp(self._grad_RW, last_RW, numbers.beta1))
        moved_RW = torch.where(is_polyak_R1, mean_RW, numbers.rate * numbers.gain * mean_RW / self._size_RW)
        value_RW = self.stack.value_RW
        if self._decays:
            value_RW = value_RW * numbers.kept
        value_RW = value_RW - moved_RW
        if self._bounds:
            value_RW = value_RW * (numbers.limit / value_RW.square().mean(1, keepdim=True).sqrt()).clamp_max(1)
        return value_RW, mean_RW, self._square_RW


class _Numbers(NamedTuple):
    """What a step needs to know of each row, (R, 1)."""

    rate: Any
    decay: Any
    beta1: Any
    beta2: Any
    eps: Any
    root: Any
    gain: Any
    kept: Any
    limit: Any
    is_polyak: Any
    is_sgd: Any


def _numbers(lm: FrozenLM, entry: Entry) -> list[float]:
    slot, optim = entry.slot, entry.slot.recipe.optim
    share = learning_rate(slot.recipe, slot.clock)
    age = slot.step - slot.began + 1
    is_sgd = optim.name == "sgd"
    # Vectors longer than the recipe allows are scaled down; direct parameterisation only.
    limit = optim.max_rms * lm.embed_rms if optim.max_rms and entry.name == "prompt" else math.inf
    return list(_Numbers(
        rate=share * _unit(lm, slot, entry.name), decay=share / optim.lr, beta1=optim.beta1, beta2=optim.beta2,
        eps=optim.eps, root=(1 - optim.beta2**age) ** 0.5,
        gain=1 / (1 - optim.beta1) if is_sgd else 1 / (1 - optim.beta1**age), kept=1 - share * optim.weight_decay,
        limit=limit, is_polyak=float(optim.name == "polyak"), is_sgd=float(is_sgd),
    ))  # fmt: skip


def _unit(lm: FrozenLM, slot: Slot, name: str) -> float:
    if name in AUXILIARY_UNITS:
        return AUXILIARY_UNITS[name]
    if slot.recipe.optim.unit == "absolute":
        return 1.0
    return PARAMETERISATIONS[slot.recipe.parameterisation.name].units(lm)[name]


def aligned(stacks: list[Stack], gradients: list[Tensor], references: list[Tensor], num_slots: int) -> list[Tensor]:
    """Each slot's gradient without what opposes its reference: `g - min(0, g.r) / |r|**2 * r`; all where r is 0.

    Source: ProGrad, Zhu et al. 2023, 2205.14865, equation 4.
    """
    pairs = list(zip(stacks, gradients, references, strict=True))
    dot_B = sum(stack.by_slot((grad * reference).sum(1), num_slots) for stack, grad, reference in pairs)
    norm_B = sum(stack.by_slot(reference.square().sum(1), num_slots) for stack, _, reference in pairs)
    share_B = torch.as_tensor(dot_B).clamp_max(0) / torch.as_tensor(norm_B).clamp_min(1e-30)
    return [grad - share_B[stack.slot_R][:, None] * reference for stack, grad, reference in pairs]
