"""How many vectors a text needs: a short calibration of one model, and the plan it gives.

Owns: `num_vectors = auto`. Must not know: files, Ray. K soft-prompt vectors, T target tokens.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from engine.frozen_lm import TokenRule
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target, encode

LENGTHS = (8, 32)
"""Calibrated target lengths, tokens: most sentences lie around or between them."""

TOKENS_PER_VECTOR = (32, 8, 4, 2, 1)
"""Ratios tried at each length. A model of 8B parameters passes the first, one of 260 thousand only the last."""

MAX_STEPS = 250
"""Steps a calibration slot gets. Assumption: a K that needs more is not the cheapest."""

TOLERANCE = 1.3
"""Cost over the cheapest at which a smaller K is preferred. Assumption."""

SAMPLES = (
    "The keeper of the lighthouse wrote down the weather every evening, even when nobody asked him for it, "
    "and he kept the books in a dry chest under the stairs.",
    "When the train stopped between two stations, a boy climbed out to look at the river, and his sister "
    "called after him that they would leave without him.",
    "Copper, salt and dried fish were sold on the market square until noon; after that the stalls belonged to "
    "the musicians and to whoever could bear them.",
    "She measured the field twice with the same rope, got two different answers, and decided that the rope "
    "had been the one thing that changed.",
)
"""Written for this file, so that no corpus is needed; only their first tokens are used."""


@dataclass(frozen=True)
class VectorPlan:
    """Vectors for a text length, interpolated between calibrated points.

    Attributes:
        points: (target tokens, vectors) in rising order of tokens.
    """

    points: tuple[tuple[int, int], ...]

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
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict) -> "VectorPlan":
        return cls(tuple((int(length), int(vectors)) for length, vectors in value["points"]))


def calibrate(solver: Solver, recipe: Recipe, on_attempt: Callable[[Attempt], None] | None = None) -> VectorPlan:
    """Find the cheapest K that solves every sample, at each of `LENGTHS`.

    Cost is forward-backward positions to a certificate, steps x (K + T - 1). Where no K solves all samples the
    one that solves most wins, the larger on a tie: exactness first, cost second. The optimum is flat, so of all K
    within `TOLERANCE` of the cheapest the smallest is taken: it stores and serves less.

    Args:
        solver: an idle solver on the model in question.
        recipe: the run's recipe; its optimiser decides what a K can hold.
        on_attempt: told about every finished attempt.
    """
    jobs = [job for length in LENGTHS for job in _jobs(solver, recipe, length)]
    attempts = solver.solve(jobs, on_attempt)
    by_length = {length: [a for a in attempts if len(a.job.target.token_ids) == length] for length in LENGTHS}
    return VectorPlan(tuple((length, _cheapest(mine)) for length, mine in by_length.items()))


def sample_target(tokens: TokenRule, number: int, length: int) -> Target:
    """The first `length` tokens of a sample, repeated where it is shorter; stopping is not asked for."""
    ids = encode(tokens, SAMPLES[number])
    ids = (ids * math.ceil(length / len(ids)))[:length]
    return Target(f"calibration-{length}-{number}", SAMPLES[number], tuple(ids), ends=False)


def _jobs(solver: Solver, recipe: Recipe, length: int) -> list[Job]:
    recipe = recipe.model_copy(update={"max_steps": min(MAX_STEPS, recipe.max_steps), "siblings": 1})
    targets = [sample_target(solver.lm.tokens, number, length) for number in range(len(SAMPLES))]
    sizes = sorted({max(1, length // ratio) for ratio in TOKENS_PER_VECTOR})
    base = Job(targets[0], recipe, 1)
    return [replace(base, target=target, num_vectors=size) for size in sizes for target in targets]


def _cheapest(attempts: list[Attempt]) -> int:
    sizes = sorted({a.job.num_vectors for a in attempts})
    mine = {size: [a for a in attempts if a.job.num_vectors == size] for size in sizes}
    solved = {size: sum(a.is_candidate for a in mine[size]) for size in sizes}
    most = max(solved.values())
    if most < len(SAMPLES):
        return max(size for size in sizes if solved[size] == most)
    cost = {size: sum(a.tokens for a in mine[size]) for size in sizes if solved[size] == most}
    return min(size for size in cost if cost[size] <= TOLERANCE * min(cost.values()))
