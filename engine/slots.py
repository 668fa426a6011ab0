"""Slots: one text, one soft prompt, its own optimiser state, recipe values and random stream.

Owns: the state of each optimisation, and which slots share a pass. Must not know: the model, losses, Ray.

K soft-prompt vectors, T target tokens, D hidden size.
"""

import hashlib
import math
import time
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from engine.certificate import Certificate
from engine.recipe import Recipe
from engine.target import Target

FOCUS_WEIGHT = 3.0
"""Weight of a position where the verifier broke off. Assumption."""

PADDING_FRAC = 0.2
"""Padding accepted in a pass before its slots are split over two. Assumption."""


@dataclass(frozen=True)
class Job:
    """One attempt asked for.

    Attributes:
        target: the text.
        recipe: its values, margins already raised where a candidate was rejected.
        num_vectors: K.
        attempt: 0 for the first; part of the random stream.
        start_KD: soft prompt to start from, or None for the recipe's start.
        focus: positions where the verifier broke off; they weigh `FOCUS_WEIGHT`.
    """

    target: Target
    recipe: Recipe
    num_vectors: int
    attempt: int = 0
    start_KD: Tensor | None = None
    focus: tuple[int, ...] = ()

    @property
    def num_positions(self) -> int:
        """Read positions of one slot: K + T - 1."""
        return self.num_vectors + len(self.target.token_ids) - 1


@dataclass(frozen=True)
class Attempt:
    """What one attempt came to: a claim in the solver's numerics; only the verifier makes it a fact.

    Attributes:
        prompt_KD: the soft prompt of the best measurement, float32 on the CPU.
        certificate: what was measured on exactly that prompt, or None if nothing finite ever was.
        steps: optimisation steps of the winning slot.
        tokens: positions passed forward and backward, all siblings together.
        seconds: wall time from admission, shared with the slots beside it.
    """

    job: Job
    prompt_KD: Tensor
    certificate: Certificate | None
    steps: int
    tokens: int
    seconds: float
    non_finite: int = 0

    @property
    def is_candidate(self) -> bool:
        """Whether the verifier should see it."""
        return self.certificate is not None and self.certificate.is_greedy


@dataclass(frozen=True)
class Snapshot:
    """The best measurement so far and the very prompt it was made on."""

    prompt_KD: Tensor
    certificate: Certificate


@dataclass(eq=False)
class Slot:
    """The state of one optimisation. Tensors are replaced, never written into, so a snapshot cannot move.

    Attributes:
        family: number shared by the sibling slots of one attempt.
        has_ended: certified, exhausted or given up; set where it was measured, and final.
    """

    job: Job
    family: int
    sibling: int
    target_T: Tensor
    weight_T: Tensor
    generator: torch.Generator
    prompt_KD: Tensor
    mean_KD: Tensor
    square_KD: Tensor
    step: int = 0
    tokens: int = 0
    non_finite: int = 0
    best: Snapshot | None = None
    has_ended: bool = False
    admitted: float = field(default_factory=time.monotonic)

    @property
    def is_exhausted(self) -> bool:
        return self.step >= self.job.recipe.max_steps

    @property
    def is_certified(self) -> bool:
        return self.best is not None and self.best.certificate.min_margin >= self.job.recipe.stop_margin

    def observe(self, certificate: Certificate) -> None:
        """Remember prompt and measurement together if this is the best yet, before any step moves the prompt."""
        if math.isfinite(certificate.min_margin) and certificate.is_better_than(self.best and self.best.certificate):
            self.best = Snapshot(self.prompt_KD, certificate)

    def restart(self, prompt_KD: Float[Tensor, "K D"]) -> None:
        """Begin again from `prompt_KD` with fresh optimiser state; the best measurement so far is kept."""
        self.prompt_KD = prompt_KD
        self.mean_KD = torch.zeros_like(prompt_KD)
        self.square_KD = torch.zeros_like(prompt_KD)
        self.step = 0

    def attempt(self, tokens: int) -> Attempt:
        """The record of this slot's best, with all siblings' `tokens`."""
        best = self.best
        prompt_KD = best.prompt_KD if best else self.prompt_KD
        return Attempt(
            job=self.job,
            prompt_KD=prompt_KD.detach().cpu().clone(),
            certificate=best.certificate if best else None,
            steps=self.step,
            tokens=tokens,
            seconds=time.monotonic() - self.admitted,
            non_finite=self.non_finite,
        )


def slot_seed(recipe_seed: int, target_id: str, attempt: int, sibling: int, restart: int = 0) -> int:
    """A seed of the slot's own: the same alone, in company, and on another machine."""
    name = f"{recipe_seed}/{attempt}/{sibling}/{restart}/{target_id}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1


def packs(slots: list[Slot], token_budget: int) -> list[list[Slot]]:
    """Slots grouped into passes: similar lengths together, padded size within the budget.

    A slot longer than the budget passes alone.
    """
    groups: list[list[Slot]] = []
    longest = 0
    for slot in sorted(slots, key=lambda slot: slot.job.num_positions, reverse=True):
        length = slot.job.num_positions
        group = groups[-1] if groups else []
        padded = longest * (len(group) + 1)
        real = sum(member.job.num_positions for member in group) + length
        if group and padded <= token_budget and padded - real <= PADDING_FRAC * padded:
            group.append(slot)
        else:
            groups.append([slot])
            longest = length
    return groups
