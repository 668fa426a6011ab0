"""The pool of a search, opened: models resident, texts drawn, the base recipe measured.

Owns: what is loaded, which texts, in which order. Must not know: Optuna, Ray Tune.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console

from engine.capacity import SECONDS
from engine.correction.start import require_start
from engine.frozen_lm import TokenRule
from engine.model_source import ModelError
from engine.recipe import Recipe
from engine.slots import Job
from orchestrator.cluster.nodes import nodes
from orchestrator.console.errors import FleetError, UserError
from orchestrator.console.terminal import say
from orchestrator.corpus import Corpus
from orchestrator.corpus.intake import Intake
from orchestrator.fleet import workers
from orchestrator.fleet.resident_solver import SolverInfo
from orchestrator.measured.calibrating import settled_plan
from orchestrator.pool.asked import PoolSpec, PoolText
from orchestrator.pool.slot_pool_actor import SlotPoolActor
from orchestrator.process.failures import reason
from orchestrator.sizing.placement import place
from orchestrator.sizing.room import need_of_corpus
from tune_spaces.options import TuneOptions
from tune_spaces.record import TuneRecord
from tune_spaces.sample import Sample, draw_sample

MAX_CPU_SOLVERS = 8
"""Solvers on a node without GPUs, one a processor up to here: each holds a copy of the model. Assumption."""


NEWS_S = 2.0
"""Seconds between two looks at what a pool that is loading has to tell."""


@dataclass(frozen=True)
class Opened:
    """A pool with its texts, ready for trials.

    Attributes:
        pool: handle of a `SlotPoolActor`.
        record: all that decides what an outcome means.
    """

    pool: Any
    sample: Sample
    record: TuneRecord

    def fault(self) -> Exception | None:
        """Why the pool cannot go on, its own death included."""
        try:
            return ray.get(self.pool.fault.remote())
        except RayError as error:
            return error

    def require_well(self) -> None:
        """Refuse to go on with a pool that cannot.

        Raises:
            UserError, ModelError: it is the user's to mend.
            FleetError: says why.
        """
        fault = self.fault()
        if isinstance(fault, (UserError, ModelError)):
            raise fault
        if fault is not None:
            raise FleetError(f"the search cannot go on: {reason(fault)}") from fault

    def cheapest_first(self, base: Recipe) -> "Opened":
        """With the texts in the order of the positions they cost the base recipe, those it cannot say last.

        Whatever must lose is to lose cheaply: the cheapest quarter of a sample took 7 % of its positions (LOG
        2026-11-21).

        Raises:
            FleetError: the pool cannot solve them.
        """
        solved = self.solve(base, self.sample.tune)
        ray.wait([solved])
        self.require_well()
        outcomes = sorted(ray.get(solved), key=lambda outcome: (not outcome.exact, outcome.positions))
        return replace(self, sample=self.sample.in_order([outcome.id for outcome in outcomes]))

    def solve(self, recipe: Recipe, jobs: list[Job]) -> Any:
        """Outcomes of some texts, as a reference."""
        return self.pool.solve.remote(recipe.model_dump_json(), [job.target.id for job in jobs])


def open_pool(options: TuneOptions, corpus: Corpus, outcomes: Path, console: Console) -> Opened:
    """Load the models, draw the texts; Ray must be connected.

    Args:
        outcomes: file of the outcomes that are known.
    """
    tokens = TokenRule.load(options.source)
    there = nodes()
    placement = place(
        there,
        num_solvers=options.solvers,
        solver_gpus=options.solver_gpus,
        token_budget=options.token_budget,
        num_cpu_solvers=sum(min(node.num_cpus, MAX_CPU_SOLVERS) for node in there),
    )
    dtype = options.dtype or placement.dtype
    recipe = options.base.model_copy(update={"num_vectors": "auto"})
    need = need_of_corpus(Intake(corpus, tokens, recipe).taken(), recipe)
    room = options.room(placement, there, need, tokens.context)
    spec = PoolSpec(
        f"{options.out.name}-{os.getpid()}",
        options.source,
        room.placement,
        dtype,
        options.engine_spec(room, dtype),
        room.served_length,
        options.lease_s,
    )
    say(console, f"{placement.num_solvers} solver(s) on {placement.device} in {dtype}, one verifier; loading")
    pool = SlotPoolActor.options(name=f"{spec.name}/pool").remote(spec, outcomes.resolve())
    info, engine = _loaded(pool, console)
    require_start(options.base.start, info.fingerprint)
    plan = settled_plan(
        lambda: workers.get(pool.plan.remote(options.base, SECONDS)), SECONDS, lambda line: say(console, line)
    )
    taken = Intake(corpus, tokens, recipe, plan, served_length=room.served_length).taken()
    sample = draw_sample(taken, options.settings.texts, options.settings.hold_out, options.seed)
    texts = [PoolText(job, options.settings.budget) for job in sample.tune + sample.hold_out]
    known = workers.get(pool.open.remote(texts))
    if known:
        say(console, f"{known} outcomes are known from before")
    return Opened(pool, sample, options.record(corpus, info.fingerprint, dtype, engine, plan.points))


def _loaded(pool: Any, console: Console) -> tuple[SolverInfo, str]:
    """What the pool holds, once it is loaded; deaths on the way are told."""
    described = pool.describe.remote()
    while not ray.wait([described], timeout=NEWS_S)[0]:
        for line in workers.get(pool.news.remote()):
            say(console, line)
    return workers.get(described)
