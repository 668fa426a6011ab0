"""The slot pool: resident solvers and one verifier, shared by everybody who has a recipe to try.

Owns: which thread does what, from the first start of an actor to the last. Must not know: why a recipe is tried,
searches.

    solve(recipe, texts) -> desk -> dispatcher -> desk -> outcomes
                                    ^ attempts of all callers in the same tables, in one pass

Callers wait in the pool's own loop; the dispatcher has a thread, in which everything is done that concerns an actor:
loading, measuring vectors, then the loop. Recipe and text decide an outcome, so it is kept: nobody pays for it twice,
and a caller that died asks again for nothing. A recipe that is dropped frees its slots within a slice.
"""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from engine.adaptation import Adaptation
from engine.capacity import VectorPlan
from engine.recipe import Recipe
from orchestrator.dispatch.dispatcher import Dispatcher, Tempo
from orchestrator.dispatch.metrics import Metrics
from orchestrator.dispatch.watch import Watch
from orchestrator.fleet.answers import SolverInfo
from orchestrator.fleet.roster import Roster
from orchestrator.pool.asked import PoolSpec, PoolText
from orchestrator.pool.desk import Asked, Desk
from orchestrator.pool.outcome import Outcome, OutcomeFile
from orchestrator.results.run_log import RunLog
from orchestrator.storage.torn_line import cut_torn_line
from orchestrator.work.work_queue import WorkQueue

TEMPO = Tempo(slice_s=0.2, judge_fill=256, judge_wait_s=0.8, patrol_s=0.2)
"""Callers wait: for their last text a slice longer at most, for its verdict while candidates are gathered."""

OUTCOMES = "outcomes.jsonl"

T = TypeVar("T")


class SlotPool:
    """Solves texts under many recipes at once.

    Args:
        spec: what is kept resident, and in which folder it tells of itself.
    """

    def __init__(self, spec: PoolSpec):
        self._spec = spec
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dispatcher")
        self._news: list[str] = []
        self._roster: Roster | None = None
        self._desk: Desk | None = None
        self._dispatcher: Dispatcher | None = None
        self._mean_positions = math.inf
        self._fault: Exception | None = None

    async def describe(self) -> tuple[SolverInfo, str]:
        """What the first solver holds, and the engine that verifies; both are loaded by then.

        Raises:
            UserError, ModelError: one of them cannot be had.
            FleetError: one died too often.
        """
        return await self._there(self._load)

    async def news(self) -> list[str]:
        """What a person should be told since the last call."""
        told, self._news = self._news, []
        return told

    async def plan(self, recipe: Recipe, seconds: float) -> VectorPlan | float:
        """How many vectors a text gets where a recipe leaves it open, or how long finding it still takes at most."""
        return await self._there(lambda: self._hired().ask(lambda solver: solver.plan.remote(recipe, seconds)))

    async def adaptation(self, recipe: Recipe, plan: VectorPlan, seconds: float) -> Adaptation | float:
        """What of a recipe suits the model, likewise."""
        return await self._there(
            lambda: self._hired().ask(lambda solver: solver.adaptation.remote(recipe, plan, seconds))
        )

    async def open(self, texts: list[PoolText]) -> int:
        """Take the texts in and begin; how many outcomes are known from before."""
        path = self._spec.folder / OUTCOMES
        cut_torn_line(path)
        self._desk = Desk(texts, self._spec.crew.served_length, OutcomeFile(path))
        self._mean_positions = sum(text.job.num_positions for text in texts) / len(texts)
        asyncio.get_running_loop().run_in_executor(self._thread, self._dispatch, self._desk)
        return self._desk.num_known

    async def solve(self, recipe_json: str, ids: list[str]) -> list[Outcome]:
        """Outcomes of texts under a recipe, in order.

        Raises:
            FleetError: no solver, or no verifier, could be kept alive, now or earlier.
        """
        return await self.look(recipe_json, ids, math.inf)

    async def look(self, recipe_json: str, ids: list[str], seconds: float) -> list[Outcome]:
        """The same after `seconds` at most, as far as they have come by then.

        Raises:
            FleetError: no solver, or no verifier, could be kept alive, now or earlier.
        """
        desk = self._opened()
        places = desk.ask(Recipe.model_validate_json(recipe_json), ids)
        waits = [place.has_ended for place in places if isinstance(place, Asked)]
        try:
            if waits:
                await asyncio.wait(waits, timeout=None if seconds == math.inf else seconds)
        finally:
            outcomes = desk.leave(places)
        return outcomes

    async def drop(self, recipe_json: str) -> None:
        """Give up what is under way of a recipe, except where another call waits for it."""
        self._opened().drop(Recipe.model_validate_json(recipe_json))

    async def slots(self) -> int:
        """Texts that the solvers' tables hold at present; those that are still loading are not counted."""
        positions = self._dispatcher.all_positions if self._dispatcher is not None else 0
        return int(positions / self._mean_positions)

    async def fault(self) -> Exception | None:
        """Why the pool cannot go on; None while it can."""
        return self._fault

    async def _there(self, do: Callable[[], T]) -> T:
        """What the dispatcher's thread does, one thing after another."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)

    def _load(self) -> tuple[SolverInfo, str]:
        roster = self._hired()
        info = roster.first_ready()
        return info, roster.ask_verifier(lambda verifier: verifier.ready.remote())

    def _hired(self) -> Roster:
        if self._roster is None:
            spec = self._spec
            self._roster = spec.crew.hire(spec.name, self._say, spec.fingerprint)
        return self._roster

    def _say(self, line: str) -> None:
        self._news.append(line)

    def _opened(self) -> Desk:
        assert self._desk is not None, "nothing can be asked for before there are texts"
        return self._desk

    def _dispatch(self, desk: Desk) -> None:
        """The loop, until the pool's process ends or it cannot go on."""
        try:
            roster, crew = self._hired(), self._spec.crew
            roster.first_ready()
            with RunLog(self._spec.folder) as log:
                watch = Watch(Metrics(self._spec.name), log)
                self._dispatcher = Dispatcher(
                    source=desk,
                    sink=desk,
                    queue=WorkQueue(desk.retry),
                    roster=roster,
                    watch=watch,
                    say=self._say,
                    table_positions=crew.placement.table_positions,
                    tempo=TEMPO,
                    lease_s=crew.lease_s,
                )
                watch.started(self._spec.name, total=None, done=desk.num_known, num_solvers=len(roster.solvers))
                self._dispatcher.run()
        except Exception as error:
            self._fault = error
            desk.fail(error)
