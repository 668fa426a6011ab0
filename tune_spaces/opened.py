"""The pool of a search, opened: models resident, texts drawn, the base recipe measured.

Owns: what is loaded, which texts, in which order. Must not know: Optuna, Ray Tune.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console

from engine.adaptation import Adaptation, is_left_open
from engine.capacity import SECONDS, VectorPlan
from engine.correction.start import require_start
from engine.frozen_lm import TokenRule
from engine.model_source import ModelError
from engine.recipe import Recipe
from engine.slots import Job
from orchestrator.cluster.nodes import only_on
from orchestrator.console.errors import FleetError, UserError
from orchestrator.console.terminal import say
from orchestrator.corpus import Corpus
from orchestrator.corpus.intake import Intake
from orchestrator.fleet import workers
from orchestrator.fleet.crew import settle
from orchestrator.measured.calibrating import settled_adaptation, settled_plan
from orchestrator.measured.margin_control import told_of_end
from orchestrator.pool.asked import PoolSpec, PoolText
from orchestrator.pool.slot_pool_actor import SlotPoolActor
from orchestrator.process.failures import reason
from orchestrator.sizing.room import need_of_corpus
from tune_spaces.options import TuneOptions
from tune_spaces.record import TuneRecord, read_record
from tune_spaces.sample import Sample, draw_sample

MAX_CPU_SOLVERS = 8
"""Solvers on a node without GPUs, one a processor up to here: each holds a copy of the model. Assumption."""

NEWS_S = 2.0
"""Seconds between two looks at what the pool has to tell."""

LEAST_AT_ONCE, MOST_AT_ONCE = 4, 32
"""Trials under way at once: fewer leave a solver idle when texts end, more crowd the driver's machine. Assumption."""


@dataclass(frozen=True)
class Opened:
    """A pool with its texts, ready for trials.

    Attributes:
        pool: handle of a `SlotPoolActor`.
        num_solvers: that it begins with.
        record: all that decides what an outcome means.
    """

    pool: Any
    num_solvers: int
    sample: Sample
    record: TuneRecord
    console: Console

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
        2026-11-21). The dearest text that the base says is in the first rung all the same.

        Raises:
            FleetError: the pool cannot solve them.
        """
        solved = self.solve(base, self.sample.tune)
        try:
            found = told(self.pool, solved, self.console)
        except RayError:
            self.require_well()
            raise
        outcomes = sorted(found, key=lambda outcome: (not outcome.exact, outcome.positions))
        dear = next((outcome.id for outcome in reversed(outcomes) if outcome.exact), None)
        return replace(self, sample=self.sample.in_order([outcome.id for outcome in outcomes], dear))

    def trials_at_once(self) -> int:
        """As many as the solvers' tables hold with all their texts."""
        try:
            slots = workers.get(self.pool.slots.remote())
        except RayError:  # `fault` tells of it
            return LEAST_AT_ONCE
        return min(MOST_AT_ONCE, max(LEAST_AT_ONCE, slots // len(self.sample.tune)))

    def solve(self, recipe: Recipe, jobs: list[Job]) -> Any:
        """Outcomes of some texts, as a reference."""
        return self.pool.solve.remote(recipe.model_dump_json(), [job.target.id for job in jobs])


def open_pool(options: TuneOptions, corpus: Corpus, console: Console) -> Opened:
    """Load the models, draw the texts, write the folder's record; Ray must be connected.

    Raises:
        UserError: the folder holds another search, or no models fit.
    """
    earlier = read_record(options.out)
    token_rule = TokenRule.load(options.source)
    recipe = options.base.model_copy(update={"num_vectors": "auto"})
    need = need_of_corpus(Intake(corpus, token_rule, recipe).taken(), recipe)
    crew = settle(options, need, token_rule.context, most_a_node=MAX_CPU_SOLVERS)
    name = f"{options.out.name}-{os.getpid()}"
    spec = PoolSpec(name, crew, options.out.resolve(), earlier.fingerprint if earlier else None)
    # Beside this process, whose folder it writes into; what it has written the folder's record must explain.
    here = only_on(ray.get_runtime_context().get_node_id())
    pool = SlotPoolActor.options(name=f"{name}/pool", scheduling_strategy=here).remote(spec)
    say(console, f"loading models: {crew.line}")
    info, engine = told(pool, pool.describe.remote(), console)
    require_start(options.base.start, info.fingerprint)
    ends = time.monotonic() + SECONDS
    plan = settled_plan(
        lambda: workers.get(pool.plan.remote(options.base, SECONDS)), SECONDS, lambda line: say(console, line)
    )
    adaptation = _adaptation(options.base, plan, earlier, pool, max(0.0, ends - time.monotonic()), console)
    if (warning := told_of_end(options.suited(adaptation).base, info.end_reach)) is not None:
        say(console, warning)
    taken = Intake(corpus, token_rule, recipe, plan, served_length=crew.served_length).taken()
    sample = draw_sample(taken, options.settings.texts, options.settings.hold_out, options.seed)
    if len(sample.tune) + len(sample.hold_out) < options.settings.texts + options.settings.hold_out:
        say(console, f"the corpus has fewer texts than --texts and --hold-out ask for: {sample.line}")
    sizes = (len(sample.tune), len(sample.hold_out))
    record = options.record(corpus, info.fingerprint, crew.dtype, engine, plan.points, sizes, adaptation)
    record.keep(options.out)
    texts = [PoolText(job, options.settings.budget) for job in sample.tune + sample.hold_out]
    known = workers.get(pool.open.remote(texts))
    if known:
        say(console, f"{known} outcomes are known from before")
    return Opened(pool, crew.placement.num_solvers, sample, record, console)


def _adaptation(
    base: Recipe, plan: VectorPlan, earlier: TuneRecord | None, pool: Any, seconds: float, console: Console
) -> Adaptation | None:
    """What the search's folder was begun with, else what suits the model; None where the base leaves nothing open."""
    if not is_left_open(base):
        return None
    if earlier is not None:  # from before there was any, where it has none: then the base's own order stands
        return earlier.adaptation or Adaptation()
    return settled_adaptation(
        lambda: workers.get(pool.adaptation.remote(base, plan, seconds)), base, seconds, lambda line: say(console, line)
    )


def told(pool: Any, ref: Any, console: Console) -> Any:
    """What an actor answers; what the pool has to tell meanwhile is said."""
    while not ray.wait([ref], timeout=NEWS_S)[0]:
        say_news(pool, console)
    say_news(pool, console)
    return workers.get(ref)


def say_news(pool: Any, console: Console) -> None:
    """Say what happened to solvers and verifier since the last call."""
    with suppress(RayError):  # whoever asks the pool for more is told that it is gone
        for line in workers.get(pool.news.remote()):
            say(console, line)


class Every:
    """A call that is made anew after some seconds; in between its last answer holds.

    Example:
        >>> numbers = iter(range(9))
        >>> every = Every(60.0, lambda: next(numbers))
        >>> every(), every()
        (0, 0)
    """

    def __init__(self, seconds: float, call: Callable[[], Any]):
        self._seconds, self._call, self._due, self._answer = seconds, call, 0.0, None

    def __call__(self) -> Any:
        if time.monotonic() >= self._due:
            self._answer, self._due = self._call(), time.monotonic() + self._seconds
        return self._answer
