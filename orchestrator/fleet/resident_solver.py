"""A resident solver: one frozen model in memory behind a few small methods, in an actor or in the user's own process.

Owns: nothing but the engine's solver. Must not know: Ray, the queue, the verifier, files of a run.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from engine.adaptation import Adaptation, Adapting
from engine.bounded import Bounded
from engine.capacity import Calibration, VectorPlan
from engine.checkpoint import from_bytes, to_bytes
from engine.decoding import greedy
from engine.difficulty import DIFFICULTIES
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.model_source import ModelSource
from engine.probes import Probe, make_probes
from engine.recipe import Recipe
from engine.recomputation import layers_of
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target
from orchestrator.fleet.answers import Advance, Shortage, SolverInfo
from orchestrator.fleet.followed import Followed
from orchestrator.fleet.under_way import longest
from orchestrator.measured import adaptation_cache
from orchestrator.measured.plan_cache import cache_key, load_plan, save_plan
from orchestrator.process.fail_points import fail_point
from orchestrator.process.failures import told_at_start
from orchestrator.process.memory import (
    bound_this_process,
    held_by_this_process,
    is_out_of_memory,
    peak_since_last_asked,
    reclaim,
)
from orchestrator.sizing.table_size import SolverRoom, TableSize
from orchestrator.work.item import Kept

COMPILE_AFTER_S = 20.0
"""Seconds of steps after which a solver on a GPU compiles its model, which takes about as long. Measured on an H200 and
an H100, 2026-11-26: 9 to 17 s for 8B, as much for the embedded model."""

CALIBRATION_SLICE_S = 2.0
"""Seconds after which a calibration tells how far it is."""


class ResidentSolver:
    """Holds a frozen model and a slot table; its owner feeds it and takes attempts away."""

    def __init__(self, source: ModelSource, room: SolverRoom, *, dtype: str, device: str, num_threads: int):
        self._source, self._room = source, room
        self._dtype, self._device, self._num_threads = dtype, device, num_threads

    def load_model(self) -> None:
        """Load the model.

        Raises:
            UserError, ModelError: why it cannot be had.
        """
        name, dtype, device, room = self._source.name, self._dtype, self._device, self._room
        with told_at_start(
            f"--model {name}: cannot be loaded in {dtype} on {device}", f"`verbatim doctor --model {name}` says more"
        ):
            fail_point("solver.loads", name)
            torch.set_num_threads(self._num_threads)
            if room.num_bytes:
                bound_this_process(room.num_bytes)
            self._lm = FrozenLM.load(self._source, device=device, dtype=dtype, served_length=room.served_length)
            self._stepped_s = 0.0
            self._solver = Solver(self._lm, table_positions=room.table_positions)
            self._followed = Followed()
            self._solver.on_measured = self._followed.measured
            self._table = TableSize.of(room)
            self._lm.keeps_up_to = self._table.kept
            self._weights_bytes = held_by_this_process(device)
            device_name = torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
            self._finding: tuple[str, Bounded[Any]] | None = None
            end_id = self._lm.token_rule.end_id
            self._info = SolverInfo(
                self._lm.fingerprint, self._lm.hidden_size, device_name, dtype, self._num_threads,
                end_reach=math.inf if end_id is None else self._lm.reach.of([end_id]),
            )  # fmt: skip

    @property
    def num_positions(self) -> float:
        """Positions passed forward and backward so far."""
        return self._solver.num_positions

    def describe(self) -> SolverInfo:
        """What is resident here."""
        return self._info

    def plan(self, recipe: Recipe, seconds: float) -> VectorPlan | float:
        """The model's vector plan, from the cache or from a calibration of at most `seconds`.

        While that goes on, what is left of them: to be asked again, which takes it further.
        """
        fingerprint = self._lm.fingerprint
        return load_plan(fingerprint, recipe, seconds) or self._taken_further(
            f"plan {cache_key(fingerprint, recipe)}",
            lambda: Calibration(self._solver, recipe, seconds),
            partial(save_plan, fingerprint, recipe),
        )

    def adaptation(self, recipe: Recipe, plan: VectorPlan | None, seconds: float) -> Adaptation | float:
        """What of the recipe suits the model, likewise."""
        key = adaptation_cache.cache_key(self._lm.fingerprint, recipe, plan)
        return adaptation_cache.load_adaptation(key, seconds) or self._taken_further(
            f"adaptation {key}",
            lambda: Adapting(self._solver, recipe, plan, seconds),
            partial(adaptation_cache.save_adaptation, key),
        )

    def _taken_further(self, key: str, begin: Callable[[], Bounded[Any]], keep: Callable[[Any], None]) -> Any:
        """What is being found out, kept once it is known, or the most seconds it still takes."""
        if self._finding is None or self._finding[0] != key:
            self.empty()
            self._finding = key, begin()
        (_, finding), self._finding = self._finding, None  # nothing to go on with, where this is interrupted
        found = finding.advance(CALIBRATION_SLICE_S)
        if found is None:
            self._finding = key, finding
            return finding.seconds_left
        keep(found)
        return found

    def empty(self) -> None:
        """Leave off whatever a call that was interrupted had begun."""
        self._finding = None
        self._solver.withdraw(self._solver.keys)

    def probes(self, recipe: Recipe, plan: VectorPlan | None) -> list[Probe]:
        """Solved samples with their margins, to compare another engine with."""
        self.empty()
        return make_probes(self._solver, recipe, plan)

    def difficulty(self, name: str, targets: list[Target]) -> list[float]:
        """A number for each target, higher where it looks harder."""
        return DIFFICULTIES[name](self._lm, targets)

    def advance(
        self,
        jobs: list[Job],
        seconds: float,
        checkpoints: Mapping[str, Kept] | None = None,
        *,
        keeps: bool = False,
        give_back: Collection[str] = (),
        on_step: Callable[[Solver], None] = lambda _: None,
    ) -> Advance:
        """Let attempts go, take jobs in, then step for about `seconds`, or until nothing is left to do.

        Args:
            checkpoints: by job key, what some of the jobs go on from, where it is here.
            keeps: whether checkpoints of what is under way are asked for.
            give_back: keys of attempts to let go of; one that has ended is an attempt like any other.
            on_step: told after every step, where both are in one process.
        """
        self._compile_where_it_pays()
        if self._finding is not None:
            self.empty()
        let_go = self._solver.withdraw(give_back)
        self._followed.forget(checkpoint.job.key for checkpoint in let_go)
        for job in jobs:
            self._take_in(job, (checkpoints or {}).get(job.key))
        started = time.monotonic()
        steps, positions = self._solver.num_steps, self._solver.num_positions
        attempts: list[Attempt] = []
        shortage = None
        while shortage is None and not self._solver.is_idle and time.monotonic() - started < seconds:
            ended, shortage = self._step()
            on_step(self._solver)
            attempts += [self._listen(attempt) for attempt in ended]
        self._stepped_s += time.monotonic() - started
        fail_point("solver.before_answer")
        ended_at = time.monotonic()
        kept = self._solver.checkpoints() if keeps else []
        if shortage is not None:
            kept = self._solver.withdraw(self._solver.keys)
            self._followed.forget(checkpoint.job.key for checkpoint in kept)
        contents = {c.job.key: to_bytes(c) for c in [*let_go, *kept] if c.states}
        return Advance(
            attempts,
            num_slots=len(self._solver.active),
            num_steps=self._solver.num_steps - steps,
            num_positions=self._solver.num_positions - positions,
            seconds=time.monotonic() - started,
            table_positions=self._solver.table_positions,
            spent=self._solver.spent(),
            checkpoints=contents,
            making_s=time.monotonic() - ended_at,
            given_back=tuple(c.job.key for c in let_go),
            shortage=shortage,
            longest=longest(self._solver.active),
            trajectories={
                key: each for attempt in attempts for key, each in self._followed.take(attempt.job.key).items()
            },
        )

    def _take_in(self, job: Job, content: Kept | None) -> None:
        """Begin a job, or go on with it."""
        fail_point("solver.takes", job.target.id)
        self._followed.begin(job.key)
        if isinstance(content, bytes) and (checkpoint := from_bytes(content, job.target)) is not None:
            self._solver.restore(job, checkpoint.states)
        else:
            self._solver.submit(job)

    def _compile_where_it_pays(self) -> None:
        """A GPU's solver compiles its model once it has stepped for about as long as that takes."""
        if self._device.startswith("cuda") and not self._lm.is_compiled and self._stepped_s > COMPILE_AFTER_S:
            self._lm.compile_layers()

    def _step(self) -> tuple[list[Attempt], Shortage | None]:
        """One step; where memory runs out, a table of half the size, and for a text alone a pass that keeps less."""
        try:
            attempts = self._solver.step()
            self._table.step()
            self._measure()
            self._solver.table_positions, self._lm.keeps_up_to = self._table.positions, self._table.kept
            return attempts, None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        reclaim()
        jobs = [slot.job for slot in self._solver.active] or [self._solver.waiting[0].job]
        passed = min((slot.num_positions for slot in self._solver.active), default=jobs[0].num_positions)
        is_smaller = self._table.halve([(job.key, job.num_positions) for job in jobs])
        keeps_less = not is_smaller and bool(layers_of(self._lm.body)) and self._table.keep_less(passed)
        self._solver.table_positions, self._lm.keeps_up_to = self._table.positions, self._table.kept
        return [], Shortage(too_large=None if is_smaller or keeps_less else jobs[0].key)

    def _measure(self) -> None:
        """On a GPU what the passes of this step took decides what a pass may keep and what the table may be."""
        room = self._room
        if room.num_bytes:
            taken = peak_since_last_asked() - self._weights_bytes
            free = room.num_bytes - self._weights_bytes
            self._table.measure(self._solver.largest_pass, taken, free, room.most_positions)

    def _listen(self, attempt: Attempt) -> Attempt:
        """With what greedy decoding says, where no verifier will: the failure's diagnosis needs it."""
        prompt_KD = held(attempt.prompt_KD)
        if attempt.is_candidate or not torch.isfinite(prompt_KD).all():
            return attempt
        try:
            said = greedy(self._lm, prompt_KD[None], max_tokens=len(attempt.job.target.token_ids))[0]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return attempt
        return replace(attempt, generated_ids=tuple(said))
