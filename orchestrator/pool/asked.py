"""What the slot pool is told and asked: what to keep resident, texts to try recipes on, texts that are being tried.

Owns: these records, the way from a finished item to an outcome. Must not know: solvers, the queue's transitions.
"""

import asyncio
from dataclasses import dataclass, replace

from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.slots import Job
from orchestrator.fleet.verifier_actor import EngineSpec
from orchestrator.pool.outcome import Outcome
from orchestrator.sizing.placement import Placement
from orchestrator.work.item import Item, State


@dataclass(frozen=True)
class PoolSpec:
    """What the pool keeps resident.

    Attributes:
        name: of the run, for the dashboard.
        context: longest soft prompt and target together, in positions: the served length.
        lease_s: seconds an actor may take over one call before it is replaced.
    """

    name: str
    source: ModelSource
    placement: Placement
    dtype: str
    engine: EngineSpec
    context: int
    lease_s: float


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


@dataclass
class Asked:
    """A text under a recipe that somebody has asked for.

    Attributes:
        outcome: set when it has ended.
        num_looks: calls that wait for it.
        is_unwanted: its recipe was dropped; whoever asks again wants it again.
        spent: positions of the attempt under way.
    """

    outcome: asyncio.Future[Outcome]
    num_looks: int = 0
    is_unwanted: bool = False
    spent: float = 0.0


def outcome_of(item: Item, text: PoolText) -> Outcome:
    """What became of a text under its recipe."""
    exact = item.state is State.VERIFIED
    certificate = item.attempt.certificate if item.attempt and item.attempt.is_candidate else None
    return Outcome(
        id=item.target.id,
        exact=exact,
        cost=text.cost(item.tokens) if exact else text.num_passes,
        positions=item.tokens,
        steps=item.steps,
        attempts=item.num_attempts,
        min_margin=certificate.min_margin if certificate else None,
    )
