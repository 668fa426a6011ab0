"""Slots: one text, one soft prompt, its own optimiser state, recipe values and random stream.

Owns: the state of each optimisation. Must not know: the model, losses, Ray.

K soft-prompt vectors, T target tokens, D hidden size.
"""

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engine.certificate import Certificate
from engine.curriculum import Lesson
from engine.elsewhere import Elsewhere
from engine.held import as_stored, from_stored
from engine.reach import enough
from engine.recipe import Recipe
from engine.schedules import Value, build_schedule
from engine.snapshot import Snapshot, on_device
from engine.target import Target


@dataclass(frozen=True)
class Job:
    """One attempt asked for.

    Attributes:
        target: the text.
        recipe: its values, margins already raised where a candidate was rejected.
        num_vectors: K.
        attempt: 0 for the first; part of the random stream.
        start_KD: soft prompt to start from, here by the time a solver begins; or None for the recipe's start.
        focus: positions where the last attempt broke off; they weigh more.
        is_objected: a verifier rejected the last attempt.
        owner: whose attempt it is, where several try one text side by side; no part of the random stream.
        member: place in the recipe's portfolio at which the first sibling stands; the others follow.
        reach: the largest margin that the text's hardest token can have, logits (`engine.reach`).
        budget: positions after which the attempt ends as it is. Schedules do not know of it, unlike `max_positions`.
    """

    target: Target
    recipe: Recipe
    num_vectors: int
    attempt: int = 0
    start_KD: Tensor | Elsewhere | None = None
    focus: tuple[int, ...] = ()
    is_objected: bool = False
    owner: str = ""
    member: int = 0
    reach: float = field(default=math.inf, compare=False)
    budget: float = math.inf

    @property
    def key(self) -> str:
        """What tells open attempts apart: the text's id, after its owner's name if there is one."""
        return f"{self.owner}/{self.target.id}" if self.owner else self.target.id

    def of_sibling(self, sibling: int) -> "Job":
        """The same, under the recipe that a sibling takes from the portfolio."""
        return replace(self, recipe=self.recipe.of_member(self.member + sibling)) if self.recipe.portfolio else self

    @property
    def num_positions(self) -> int:
        """Read positions of one slot: K + T - 1."""
        return self.num_vectors + len(self.target.token_ids) - 1

    @property
    def overrun(self) -> int:
        """Tokens that a search may decode past the target and still be proved to say it."""
        return self.recipe.beam_overrun if self.target.ends else 0

    @property
    def wanted(self) -> float:
        """The lead at which it is done; below `stop_margin` where a token has its like and no verifier objected."""
        is_held = self.recipe.proof == "beam" or self.is_objected
        return self.recipe.stop_margin if is_held else min(self.recipe.stop_margin, enough(self.reach))

    def lead(self, certificate: Certificate) -> float:
        """What `wanted` is asked of: the smallest margin, logits; with `proof = "beam"` the lead, nats."""
        return certificate.lead(self.overrun) if self.recipe.proof == "beam" else certificate.min_margin


@dataclass(frozen=True)
class Attempt:
    """What one attempt came to: a claim in the solver's numerics; only the verifier makes it a fact.

    Attributes:
        prompt_KD: the soft prompt of the best measurement, float32 on the CPU, or where that lies.
        certificate: what was measured on exactly that prompt, or None if nothing finite ever was.
        steps: optimisation steps of the winning slot.
        positions: positions passed forward and backward, all siblings together.
        seconds: wall time from admission, shared with the slots beside it.
        exact_steps, exact_positions: of the winning slot before it was first exact, margin or not; None if never.
        prefix_tokens: longest prefix of the target that the winning slot ever had exact.
        sibling: which of the attempt's siblings it is.
        generated_ids: what greedy decoding says after the prompt, where somebody looked.
    """

    job: Job
    prompt_KD: Tensor | Elsewhere
    certificate: Certificate | None
    steps: int
    positions: int
    seconds: float
    non_finite: int = 0
    exact_steps: int | None = None
    exact_positions: int | None = None
    prefix_tokens: int = 0
    sibling: int = 0
    generated_ids: tuple[int, ...] | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding emits the target."""
        return self.certificate is not None and self.certificate.is_greedy

    @property
    def is_candidate(self) -> bool:
        """Whether the proof that was asked for holds in the solver's numerics, however narrowly."""
        return self.certificate is not None and self.is_greedy and self.job.lead(self.certificate) > 0

    @property
    def has_margin(self) -> bool:
        """Whether it holds by as much as was wanted."""
        return self.is_candidate and self.certificate is not None and self.job.lead(self.certificate) >= self.job.wanted

    def __getstate__(self) -> dict[str, Any]:  # a tensor takes ten times as long to pickle as an array
        return vars(self) | {"prompt_KD": as_stored(self.prompt_KD)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, prompt_KD=from_stored(state["prompt_KD"]))


@dataclass(eq=False)
class Slot:
    """The state of one optimisation. Tensors are replaced, never written into, so a snapshot cannot move.

    Attributes:
        job: the attempt, under the sibling's own recipe.
        asked: the attempt as it was asked for.
        family: number shared by the sibling slots of one attempt.
        recipes: the recipe of each stage.
        prompt_KD: the prompt that `trained` makes, no gradient.
        trained, constant: the parameterisation's tensors by name; what is trained beside the prompt is among them.
        mean, square: the optimiser's moments of `trained`.
        began: step at which `trained` began; the moments' age counts from there.
        lesson: place in the curriculum.
        baseline: moving mean of sampled rewards.
        age: measurements so far.
        latest: the last of them, over a prefix of `measured` tokens.
        has_ended: certified, exhausted, culled or given up; set where it was measured, and final.
    """

    job: Job
    asked: Job
    family: int
    sibling: int
    recipes: tuple[Recipe, ...]
    target_T: Tensor
    generator: torch.Generator
    lesson: Lesson
    prompt_KD: Tensor
    trained: dict[str, Tensor] = field(default_factory=dict)
    constant: dict[str, Tensor] = field(default_factory=dict)
    mean: dict[str, Tensor] = field(default_factory=dict)
    square: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    began: int = 0
    positions: float = 0.0
    non_finite: int = 0
    baseline: float = 0.0
    age: int = 0
    latest: Certificate | None = None
    measured: int = 0
    best: Snapshot | None = None
    exact_steps: int | None = None
    exact_positions: int | None = None
    prefix_tokens: int = 0
    has_ended: bool = False
    admitted: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._terms = tuple({name: value for name, value in recipe.terms if value != 0} for recipe in self.recipes)

    @property
    def terms(self) -> dict[str, Value]:
        """Weights of the terms that the stage adds to its main loss."""
        return self._terms[self.lesson.stage]

    @property
    def recipe(self) -> Recipe:
        """The recipe of the stage the slot is in."""
        return self.recipes[self.lesson.stage]

    @property
    def is_direct(self) -> bool:
        """Whether what is trained is what is read: the prompt itself, in float32."""
        parameterisation = self.recipe.parameterisation
        return parameterisation.name == "direct" and parameterisation.serving_dtype == "float32"

    @property
    def num_positions(self) -> int:
        """Read positions of one pass: K + T - 1 over the tokens that are trained."""
        return self.job.num_vectors + self.lesson.window - 1

    @property
    def progress(self) -> float:
        """Share of the attempt that is spent: of its steps, or of its positions where those are bounded."""
        recipe = self.job.recipe
        spent = self.positions / recipe.max_positions if recipe.max_positions else 0.0
        return min(1.0, max(self.step / recipe.max_steps, spent))

    @property
    def clock(self) -> float:
        """What schedules run on: steps, or their like where positions run out first."""
        recipe = self.job.recipe
        return self.progress * recipe.max_steps if recipe.max_positions else float(self.step)

    def at(self, value: Value) -> float:
        """A number of the recipe, or its schedule at the slot's clock."""
        return value if isinstance(value, float) else build_schedule(value, self.job.recipe.max_steps)(self.clock)

    @property
    def is_exhausted(self) -> bool:
        return self.progress >= 1

    @property
    def is_certified(self) -> bool:
        certificate = self.best.certificate if self.best else None
        return certificate is not None and certificate.is_greedy and self.job.lead(certificate) >= self.job.wanted

    @property
    def rank(self) -> tuple[int, float, float]:
        """Of the best measurement; what is better ranks higher."""
        return self._rank(self.best) if self.best else (0, 0.0, 0.0)

    def _rank(self, snapshot: Snapshot) -> tuple[int, float, float]:
        """A longer window before any lead, and where nothing is proved yet the margin."""
        return snapshot.window, max(0.0, self.job.lead(snapshot.certificate)), snapshot.certificate.min_margin

    def observe(self, certificate: Certificate, prompt_KD: Float[Tensor, "K D"]) -> None:
        """Remember prompt and measurement together if this is the best yet, before any step moves the prompt.

        A longer window counts for more than any margin over a shorter one.
        """
        self.age, self.latest, self.measured = self.age + 1, certificate, self.lesson.window
        self.prefix_tokens = max(self.prefix_tokens, certificate.first_mismatch)
        if certificate.is_greedy and self.exact_steps is None:
            self.exact_steps, self.exact_positions = self.step, math.ceil(self.positions)
        if not math.isfinite(certificate.min_margin):
            return
        snapshot = Snapshot(prompt_KD, certificate, self.lesson.window)
        if self.best is None or self._rank(snapshot) > self._rank(self.best):
            self.best = snapshot

    def begin(self, trained: dict[str, Tensor], constant: dict[str, Tensor]) -> None:
        """Train these tensors from here on, with fresh optimiser state; the best measurement so far is kept."""
        self.trained, self.constant = trained, constant
        self.mean = {name: torch.zeros_like(tensor) for name, tensor in trained.items()}
        self.square = dict(self.mean)
        self.began = self.step

    def state_dict(self) -> dict[str, Any]:
        """All that a slot of the same job needs to go on from here; what the slot does later leaves it as it is."""
        state = {name: getattr(self, name) for name in _STATE} | {"generator": self.generator.get_state()}
        # Tensors are only ever replaced, but the dicts that hold them are written into.
        return {name: dict(value) if isinstance(value, dict) else value for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same job, wherever its tensors are: they go to the device of the slot's own."""
        for name in _STATE:
            setattr(self, name, on_device(self.target_T.device, state[name]))
        self.generator.set_state(state["generator"])

    def attempt(self, positions: float) -> Attempt:
        """The record of this slot's best, with all siblings' `positions`."""
        return Attempt(
            job=self.asked,
            prompt_KD=(self.best.prompt_KD if self.best else self.prompt_KD).detach().cpu().clone(),
            certificate=self.best.certificate if self.best else None,
            steps=self.step,
            positions=math.ceil(positions),
            seconds=time.monotonic() - self.admitted,
            non_finite=self.non_finite,
            exact_steps=self.exact_steps,
            exact_positions=self.exact_positions,
            prefix_tokens=self.prefix_tokens,
            sibling=self.sibling,
        )


_STATE = (
    "lesson", "prompt_KD", "trained", "constant", "mean", "square", "step", "began", "positions", "non_finite",
    "baseline", "age", "latest", "measured", "best", "exact_steps", "exact_positions", "prefix_tokens", "has_ended",
)  # fmt: skip
