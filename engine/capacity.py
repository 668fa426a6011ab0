"""How many vectors a text needs: a short calibration of one model, and the plan it gives.

Owns: `num_vectors = auto`, and how long it may take. Must not know: files, Ray. K soft-prompt vectors, T target tokens.
"""

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass

from engine.bounded import Bounded
from engine.race import Race
from engine.recipe import Recipe
from engine.samples import LENGTHS, sample_targets
from engine.slots import Job
from engine.solver import Solver

TOKENS_PER_VECTOR = (32, 8, 4, 2, 1)
"""Ratios tried at each length. A model of 8B parameters passes the first, one of 260 thousand only the last: that one
takes most positions a step, and is tried where no other solves."""

UNDECIDED = 2
"""Most tokens a vector where time was too short to tell: what suits the pocket model and SmolLM2, LOG 2026-11-25."""

SECONDS, SECONDS_A_TEXT = 60.0, 2.0
"""Most a calibration takes, and less for a run of few texts. Assumption."""

MAX_STEPS = 250
"""Steps a calibration slot gets. Assumption: a K that needs more is not the cheapest."""


@dataclass(frozen=True)
class VectorPlan:
    """Vectors for a text length, interpolated between calibrated points.

    Attributes:
        points: (target tokens, vectors) in rising order of tokens.
        undecided: lengths among them at which no K was seen to solve every sample in time.
        seconds: what the calibration was given, where that was too little.
    """

    points: tuple[tuple[int, int], ...]
    undecided: tuple[int, ...] = ()
    seconds: float = 0.0

    def num_vectors(self, num_tokens: int, context: int) -> int:
        """K for a target of `num_tokens`: linear between points, in proportion to the tokens outside them.

        At least 1, and never more than the context leaves beside the target.
        """
        return max(1, min(math.ceil(self._exact(num_tokens) - 1e-9), context - num_tokens))

    def _exact(self, num_tokens: int) -> float:
        (first, fewest), (last, most) = self.points[0], self.points[-1]
        if num_tokens <= first:
            return fewest * num_tokens / first
        for (left, low), (right, high) in zip(self.points, self.points[1:], strict=False):
            if num_tokens <= right:
                return low + (high - low) * (num_tokens - left) / (right - left)
        return most * num_tokens / last

    def to_json(self) -> dict:
        return asdict(self) if self.undecided else {"points": self.points}

    @classmethod
    def from_json(cls, value: dict) -> "VectorPlan":
        points = tuple((int(length), int(vectors)) for length, vectors in value["points"])
        return cls(points, tuple(map(int, value.get("undecided", ()))), float(value.get("seconds", 0)))


def seconds_for(num_texts: int) -> float:
    """Most that a calibration for a run of so many texts takes."""
    return min(SECONDS, SECONDS_A_TEXT * num_texts)


def calibrate(solver: Solver, recipe: Recipe, seconds: float = SECONDS) -> VectorPlan:
    """A whole `Calibration` at once."""
    return Calibration(solver, recipe, seconds).whole()


class Calibration(Bounded[VectorPlan]):
    """The cheapest K that solves every sample, at each of `LENGTHS`, found step by step within a bound.

    The ratios of `TOKENS_PER_VECTOR` race, fewest vectors first; where none solves every sample a vector a token is
    tried. What is decided is the same on every machine; a length that the time did not suffice for gets the K that was
    furthest, but no fewer than a vector for `UNDECIDED` tokens: exactness first.

    Args:
        solver: an idle solver on the model in question.
        recipe: the run's recipe; its optimiser decides what a K can hold.
        seconds: the bound.
    """

    def __init__(self, solver: Solver, recipe: Recipe, seconds: float = SECONDS):
        super().__init__(seconds)
        self._solver = solver
        self._recipe = recipe.model_copy(update={"max_steps": min(MAX_STEPS, recipe.max_steps), "siblings": 1})
        self._points: list[tuple[int, int]] = []
        self._undecided: list[int] = []

    def _found(self) -> VectorPlan:
        undecided = tuple(self._undecided)
        return VectorPlan(tuple(self._points), undecided, self.seconds if undecided else 0.0)

    def _walk(self) -> Iterator[None]:
        """Length after length, each with its share of what time is left."""
        for number, length in enumerate(LENGTHS):
            ends = time.monotonic() + self.seconds_left / (len(LENGTHS) - number)
            race = yield from self._race(length, ends)
            num_vectors = race.winner.value
            if not race.winner.is_solved:
                self._undecided.append(length)
                num_vectors = max(num_vectors, length // UNDECIDED)
            self._points.append((length, num_vectors))

    def _race(self, length: int, ends: float) -> Generator[None, None, Race]:
        *fewer, most = sorted({max(1, length // ratio) for ratio in TOKENS_PER_VECTOR})
        least = self._points[-1][1] if self._points else 1  # a longer text takes no fewer vectors
        race = Race(self._solver, {size: self._jobs(length, size) for size in fewer if size >= least})
        yield from race.run(ends)
        if race.is_over and not race.winner.is_solved:
            race = Race(self._solver, {most: self._jobs(length, most)})
            yield from race.run(ends)
        return race

    def _jobs(self, length: int, num_vectors: int) -> list[Job]:
        return [Job(target, self._recipe, num_vectors) for target in sample_targets(self._solver.lm.token_rule, length)]
