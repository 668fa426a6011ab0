"""Populations: the siblings of one attempt as a race, in which the losers' places are taken while they run.

Owns: who is ahead, when that is looked at, what becomes of the worse half. Must not know: the table, other texts.

All depends on the siblings alone, so that an attempt ends in company as it would by itself.
K soft-prompt vectors, D hidden size.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from engine import curriculum
from engine.frozen_lm import FrozenLM
from engine.passes import begin_training
from engine.slots import Slot
from engine.training import positions_of


def standing(slot: Slot) -> tuple[int, float]:
    """What a sibling had at its last measurement: tokens measured, smallest margin in logits.

    Margins foretell who is certified first better than exact prefixes or tokens right do (docs/populations.md).
    """
    latest = slot.latest
    if latest is None or not math.isfinite(latest.min_margin):
        return 0, -math.inf
    return slot.measured, latest.min_margin


def is_look(age: int, cull_after: int, *, renews: bool) -> bool:
    """Whether siblings are compared after so many measurements.

    Where the worse half ends, at every doubling, so that every round costs what the one before did (successive halving,
    Jamieson & Talwalkar 2016, 1502.07943); where it begins again, at every multiple.
    """
    rounds, rest = divmod(age, cull_after) if cull_after else (0, 1)
    return rest == 0 and rounds > 0 and (renews or rounds & (rounds - 1) == 0)


def cull(lm: FrozenLM, family: list[Slot]) -> None:
    """At a look, end the worse half of the siblings that still run, or have them begin again from the best."""
    rules = family[0].job.recipe.population
    running = [slot for slot in family if not slot.has_ended]
    renews = rules.renewal != "none"
    if len(running) < 2 or not is_look(min(slot.age for slot in running), rules.cull_after, renews=renews):
        return
    ranked = sorted(running, key=standing, reverse=True)  # stable: the earlier sibling on a tie
    kept = ranked[: (len(ranked) + 1) // 2]
    for slot in ranked[len(kept) :]:
        if renews:
            _begin_again(lm, slot, child(lm, slot, [parent.prompt_KD for parent in kept]))
        else:
            slot.has_ended = True


def child(lm: FrozenLM, slot: Slot, parents: list[Float[Tensor, "K D"]]) -> Float[Tensor, "K D"]:
    """The best parent's prompt with noise; recombined, each vector is one of the two best parents'.

    Drawn from the slot's own stream.
    """
    rules, prompt_KD = slot.job.recipe.population, parents[0]
    if rules.renewal == "recombine" and len(parents) > 1:
        is_second_K1 = torch.rand(len(prompt_KD), 1, generator=slot.generator) < 0.5
        prompt_KD = torch.where(is_second_K1.to(lm.device), parents[1], prompt_KD)
    noise_KD = torch.randn(prompt_KD.shape, generator=slot.generator).to(lm.device)
    return prompt_KD + rules.noise * lm.embed_rms * noise_KD


def _begin_again(lm: FrozenLM, slot: Slot, start_KD: Tensor) -> None:
    """Schedules go on: they belong to the attempt. The curriculum begins again, now."""
    first = curriculum.first_lesson(slot.job.recipe, len(slot.target_T))
    slot.lesson = replace(first, opened=slot.clock)
    begin_training(lm, slot, start_KD)


def is_last_pass(family: list[Slot]) -> bool:
    """Whether the siblings' next pass spends the budget of their attempt."""
    budget = family[0].asked.budget
    if budget == math.inf:
        return False
    due = sum(positions_of(slot) for slot in family if not slot.has_ended)
    return sum(slot.positions for slot in family) + due >= budget
