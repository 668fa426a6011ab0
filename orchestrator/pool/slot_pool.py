"""The slot pool: resident solvers and one verifier, shared by everybody who has a recipe to try.

Owns: whose attempts are in which table, what is known already. Must not know: why a recipe is tried, searches.

    solve(recipe, texts) -> queue -> solver actors -> queue -> verifier actor -> outcomes
                               ^ attempts of all callers in one table, one pass

One asyncio loop a solver and one for the verifier; each call of `solve` waits for its own texts alone, and `look` tells
how far they have come. Recipe and text decide an outcome, so it is kept: nobody pays for it twice, and a caller that
died asks again for nothing. A recipe that is dropped frees its slots within a slice.
"""

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from engine.capacity import VectorPlan
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from orchestrator.cluster.nodes import is_nodes_fault
from orchestrator.fleet import workers
from orchestrator.fleet.resident_solver import Advance, SolverInfo
from orchestrator.fleet.verifier_actor import JUDGE_BATCH
from orchestrator.fleet.workers import Worker
from orchestrator.pool.asked import Asked, PoolSpec, PoolText, outcome_of
from orchestrator.pool.outcome import Outcome, OutcomeFile
from orchestrator.storage.torn_line import cut_torn_line
from orchestrator.verifiers.contract import Verdict
from orchestrator.work.item import State
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import TOO_LARGE, WorkQueue

SLICE_S = 0.2
"""Seconds a solver computes before it reports; a caller waits for its last text this much longer at most."""

JUDGE_WAIT_S = 0.8
"""Candidates are gathered this long before they are judged together."""


class SlotPool:
    """Solves texts under many recipes at once.

    Args:
        spec: what is kept resident.
        outcomes: file of the outcomes that are known.
    """

    def __init__(self, spec: PoolSpec, outcomes: Path):
        self._spec = spec
        cut_torn_line(outcomes)
        self._file = OutcomeFile(outcomes)
        self._texts: dict[str, PoolText] = {}
        self._queue = WorkQueue(self._retry)
        self._asked: dict[str, Asked] = {}
        self._has_work = asyncio.Event()
        self._has_candidates = asyncio.Event()
        self._solvers = [
            workers.solver_worker(spec.name, i, spec.source, spec.placement, spec.dtype)
            for i in range(spec.placement.num_solvers)
        ]
        self._verifier = workers.verifier_worker(spec.name, spec.engine, spec.placement)
        self._budgets: dict[str, int] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._fault: Exception | None = None
        self._news: list[str] = []
        self._known = {f"{recipe}/{outcome.id}": outcome for recipe, outcome in self._file.read()}

    async def describe(self) -> tuple[SolverInfo, str]:
        """What the first solver holds, and the engine that verifies; all are loaded by then.

        Raises:
            UserError, ModelError: one of them cannot be had.
            FleetError: one died too often.
        """
        await asyncio.gather(*(self._load(worker) for worker in [*self._solvers, self._verifier]))
        return await self._solvers[0].actor.describe.remote(), await self._verifier.actor.ready.remote()

    async def news(self) -> list[str]:
        """What a person should be told since the last call."""
        told, self._news = self._news, []
        return told

    async def plan(self, recipe: Recipe, seconds: float) -> VectorPlan | float:
        """How many vectors a text gets where a recipe leaves it open, or how long finding it still takes at most."""
        return await self._solvers[0].actor.plan.remote(recipe, seconds)

    async def open(self, texts: list[PoolText]) -> int:
        """Take the texts in and begin; how many outcomes are known from before."""
        self._texts = {text.job.target.id: text for text in texts}
        self._loops = [
            asyncio.create_task(self._guard(loop))
            for loop in [*(self._drive(solver) for solver in self._solvers), self._judge()]
        ]
        return len(self._known)

    async def solve(self, recipe_json: str, ids: list[str]) -> list[Outcome]:
        """Outcomes of texts under a recipe, in order.

        Raises:
            FleetError: an actor could not be kept alive, now or earlier.
        """
        return await self.look(recipe_json, ids, math.inf)

    async def look(self, recipe_json: str, ids: list[str], seconds: float) -> list[Outcome]:
        """The same after `seconds` at most, as far as they have come by then.

        Raises:
            FleetError: an actor could not be kept alive, now or earlier.
        """
        if self._fault is not None:
            raise self._fault
        recipe = Recipe.model_validate_json(recipe_json)
        jobs = [self._texts[id].under(recipe) for id in ids]
        waits = {job.key: asked for job in jobs if (asked := self._ask(job))}
        for asked in waits.values():
            asked.num_looks += 1
        try:
            if waits:
                outcomes = [asked.outcome for asked in waits.values()]
                await asyncio.wait(outcomes, timeout=None if seconds == math.inf else seconds)
        finally:
            for asked in waits.values():
                asked.num_looks -= 1
        return [self._standing(job, waits.get(job.key)) for job in jobs]

    async def drop(self, recipe_json: str) -> None:
        """Give up what is under way of a recipe, except where another call waits for it."""
        if self._fault is not None:
            return
        owner = Recipe.model_validate_json(recipe_json).hash
        for key, asked in self._asked.items():
            asked.is_unwanted |= key.startswith(f"{owner}/") and not asked.num_looks
        self._drop_unwanted()

    async def fault(self) -> Exception | None:
        """Why the pool cannot go on; None while it can."""
        return self._fault

    def _ask(self, job: Job) -> Asked | None:
        """Queue a text if need be; None where there is nothing to wait for."""
        if job.key in self._known or job.num_vectors + len(job.target.token_ids) > self._spec.context:
            return None
        if job.key not in self._asked:
            self._asked[job.key] = Asked(asyncio.get_running_loop().create_future())
            self._queue.add(0, job)
            self._has_work.set()
        self._asked[job.key].is_unwanted = False
        return self._asked[job.key]

    def _standing(self, job: Job, asked: Asked | None) -> Outcome:
        """What is known of a text: its outcome, how far it has come, or that it cannot be."""
        if asked is None:
            impossible = Outcome(job.target.id, False, self._texts[job.target.id].num_passes, 0, 0, 0, None)
            return self._known.get(job.key, impossible)
        if asked.outcome.done():
            return asked.outcome.result()
        text = self._texts[job.target.id]
        positions = self._queue.tokens(job.key) + asked.spent
        return Outcome(job.target.id, False, text.cost(positions), int(positions), 0, 0, None, is_under_way=True)

    def _drop_unwanted(self) -> None:
        """Forget what nobody wants any more, as far as no solver holds it and no verifier judges it."""
        for key in self._queue.drop(self._unwanted()):
            self._asked.pop(key).outcome.cancel()

    def _unwanted(self) -> set[str]:
        return {key for key, asked in self._asked.items() if asked.is_unwanted}

    def _retry(self, job: Job, attempt: Attempt, verdict: Verdict | None) -> Job:
        """What a run would try next, with what is left of the budget."""
        again = make_retry(self._spec.context, job.recipe.num_vectors == "auto")(job, attempt, verdict)
        return replace(again, budget=max(0.0, job.budget - attempt.tokens))

    async def _drive(self, solver: Worker) -> None:
        """Keep one solver's table full."""
        while True:
            held = self._queue.leased_positions(solver.name)
            budget = self._budgets.get(solver.name, self._spec.placement.token_budget)
            share = math.ceil(self._queue.num_unsolved_positions / len(self._solvers))
            jobs = self._queue.lease(solver.name, min(2 * budget, share) - held)
            if not jobs and not held:
                await _next(self._has_work)
                continue
            try:
                await self._start(solver)
                unwanted = self._unwanted() & self._queue.held(solver.name)
                known = self._queue.checkpoints(jobs)
                advance = await self._answer(solver.actor.advance.remote(jobs, SLICE_S, known, give_back=unwanted))
            except (RayError, TimeoutError) as error:
                self._replace(solver, error)
            else:
                self._take(solver, advance)
            self._settle()

    def _replace(self, solver: Worker, error: Exception) -> None:
        is_own_fault = not is_nodes_fault(error, solver.home)
        states = self._queue.lose(solver.name, is_suspicious=is_own_fault)
        for key in states:
            self._asked[key].spent = 0.0
        if State.POISONED in states.values():
            solver.num_deaths = 0  # it was that text, which will not come again
        solver.stop()
        solver.replace(error, is_own_fault=is_own_fault)

    def _take(self, solver: Worker, advance: Advance) -> None:
        solver.num_deaths = 0
        for key, spent in advance.spent.items():
            self._asked[key].spent = spent
        for attempt in advance.attempts:
            self._queue.finish(solver.name, attempt)
            self._asked[attempt.job.key].spent = 0.0
        self._queue.give_back(solver.name, {key: advance.checkpoints.get(key) for key in advance.given_back})
        self._budgets[solver.name] = advance.token_budget
        if advance.shortage is not None:
            if advance.shortage.too_large is not None:
                self._queue.give_up(solver.name, advance.shortage.too_large, TOO_LARGE)
            self._queue.remember(solver.name, advance.checkpoints)
            self._queue.lose(solver.name, is_suspicious=False)

    async def _judge(self) -> None:
        """Judge candidates as they come, a batch at a time."""
        verifier = self._verifier
        while True:
            if not self._queue.num_waiting_candidates:
                await _next(self._has_candidates)
            await asyncio.sleep(JUDGE_WAIT_S)
            candidates = self._queue.take_candidates(JUDGE_BATCH)
            try:
                await self._start(verifier)
                verdicts = await self._answer(verifier.actor.judge.remote(candidates))
            except (RayError, TimeoutError) as error:
                self._queue.return_candidates([candidate.id for candidate in candidates])
                verifier.stop()
                verifier.replace(error, is_own_fault=not is_nodes_fault(error, verifier.home))
            else:
                verifier.num_deaths = 0
                for verdict in verdicts:
                    self._queue.judge(verdict)
            self._settle()

    async def _load(self, worker: Worker) -> None:
        """Wait until it is ready, started anew where it dies."""
        while not worker.has_started:
            try:
                await self._start(worker)
            except RayError as death:
                self._news.append(worker.obituary(death))
                worker.stop()
                worker.replace(death)

    async def _start(self, worker: Worker) -> None:
        """Wait until it is ready; no lease, since loading takes as long as it takes."""
        if not worker.has_started:
            try:
                worker.settle_in(await worker.in_flight)
            except RayError as error:
                raise worker.refusal(error) from error

    async def _answer(self, ref: Any) -> Any:
        return await asyncio.wait_for(ref, self._spec.lease_s)

    async def _guard(self, loop: Awaitable[None]) -> None:
        """A loop that cannot go on ends the others, and is told to everybody who waits or asks later."""
        try:
            await loop
        except Exception as error:
            self._fault = error
            for other in self._loops:
                if other is not asyncio.current_task():
                    other.cancel()
            for asked in self._asked.values():
                asked.outcome.set_exception(error)
            self._asked.clear()

    def _settle(self) -> None:
        """Give outcomes to those who wait, wake the loops that have something to do."""
        self._drop_unwanted()
        for item in self._queue.drain():
            outcome = outcome_of(item, self._texts[item.target.id])
            if item.tokens:  # else no solver could take it, here and now
                self._file.append(item.id.partition("/")[0], outcome)
            self._known[item.id] = outcome
            self._asked.pop(item.id).outcome.set_result(outcome)
        self._has_work.set()
        if self._queue.num_waiting_candidates:
            self._has_candidates.set()


async def _next(event: asyncio.Event) -> None:
    """Wait for what happens after this call."""
    event.clear()
    await event.wait()
