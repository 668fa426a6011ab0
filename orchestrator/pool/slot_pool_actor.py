"""The slot pool as an actor.

Owns: the actor's class. Nothing heavy is imported here: whoever holds a handle imports it too, as a search's trials do.
"""

from typing import TYPE_CHECKING

import ray

from orchestrator.pool.outcome import Outcome

if TYPE_CHECKING:
    from engine.adaptation import Adaptation
    from engine.capacity import VectorPlan
    from engine.recipe import Recipe
    from orchestrator.fleet.answers import SolverInfo
    from orchestrator.pool.asked import PoolSpec, PoolText
    from orchestrator.pool.slot_pool import SlotPool


@ray.remote(max_restarts=0, max_task_retries=0, num_cpus=0)
class SlotPoolActor:
    """Holds a `SlotPool`; its methods are the pool's."""

    def __init__(self, spec: "PoolSpec"):
        self._spec = spec
        self._made: SlotPool | None = None

    @property
    def _pool(self) -> "SlotPool":
        """Not made by the constructor: what that raises, Ray passes on as text."""
        if self._made is None:
            from orchestrator.pool.slot_pool import SlotPool

            self._made = SlotPool(self._spec)
        return self._made

    async def describe(self) -> "tuple[SolverInfo, str]":
        return await self._pool.describe()

    async def news(self) -> list[str]:
        return await self._pool.news()

    async def plan(self, recipe: "Recipe", seconds: float) -> "VectorPlan | float":
        return await self._pool.plan(recipe, seconds)

    async def adaptation(self, recipe: "Recipe", plan: "VectorPlan", seconds: float) -> "Adaptation | float":
        return await self._pool.adaptation(recipe, plan, seconds)

    async def open(self, texts: "list[PoolText]") -> int:
        return await self._pool.open(texts)

    async def solve(self, recipe_json: str, ids: list[str]) -> list[Outcome]:
        return await self._pool.solve(recipe_json, ids)

    async def look(self, recipe_json: str, ids: list[str], seconds: float) -> list[Outcome]:
        return await self._pool.look(recipe_json, ids, seconds)

    async def drop(self, recipe_json: str) -> None:
        await self._pool.drop(recipe_json)

    async def slots(self) -> int:
        return await self._pool.slots()

    async def fault(self) -> Exception | None:
        return await self._pool.fault()
