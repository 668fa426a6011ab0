"""What the slot pool is told: what to keep resident, texts to try recipes on.

Owns: these records, the way from a finished item to an outcome. Must not know: solvers, the queue's transitions.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from engine.recipe import Recipe
from engine.slots import Job
from orchestrator.fleet.crew import Crew
from orchestrator.pool.outcome import Outcome
from orchestrator.work.item import Item, State


@dataclass(frozen=True)
class PoolSpec:
    """What the pool keeps resident.

    Attributes:
        name: of the search, for the dashboard.
        folder: of the search, on the disk of the machine that the pool runs on.
        fingerprint: of the weights that an earlier call had; None where there was none.
    """

    name: str
    crew: Crew
    folder: Path
    fingerprint: str | None = None


@dataclass(frozen=True)
class PoolText:
    """A text that recipes are tried on.

    Attributes:
        job: the attempt whose vectors a recipe with K auto takes; its recipe is replaced.
        num_passes: budget, in passes over the text with these vectors.
    """

    job: Job
    num_passes: float

    @property
    def budget(self) -> float:
        """In positions."""
        return self.num_passes * self.job.num_positions

    def cost(self, positions: float) -> float:
        """Positions as passes over the text, the budget at most."""
        return min(positions / self.job.num_positions, self.num_passes)

    def under(self, recipe: Recipe) -> Job:
        """The first attempt with a recipe."""
        job = replace(self.job, recipe=recipe, owner=recipe.hash, budget=self.budget)
        return job if recipe.num_vectors == "auto" else replace(job, num_vectors=recipe.num_vectors)


def outcome_of(item: Item, text: PoolText, prefix_tokens: int) -> Outcome:
    """What became of a text under its recipe.

    Args:
        prefix_tokens: the longest prefix that any of its attempts had exact.
    """
    num_tokens = len(item.target.token_ids)
    exact = item.state is State.VERIFIED
    certificate = item.attempt.certificate if item.attempt and item.attempt.is_candidate else None
    return Outcome(
        id=item.target.id,
        exact=exact,
        cost=text.cost(item.positions) if exact else text.num_passes,
        positions=item.positions,
        steps=item.steps,
        attempts=item.num_attempts,
        min_margin=certificate.min_margin if certificate else None,
        prefix_tokens=num_tokens if exact else prefix_tokens,
        num_tokens=num_tokens,
    )
