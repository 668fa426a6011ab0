"""The solver actor: one resident frozen model behind three small methods.

Owns: nothing but the engine's solver. Must not know: the queue, the verifier, files of a run.
"""

import time
from dataclasses import dataclass, field, replace

import ray
import torch

from engine.capacity import VectorPlan, calibrate
from engine.checkpoint import from_bytes, to_bytes
from engine.decoding import greedy
from engine.difficulty import DIFFICULTIES
from engine.frozen_lm import FrozenLM, ModelSource
from engine.probes import Probe, make_probes
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target
from orchestrator.fail_points import fail_point
from orchestrator.plan_cache import load_plan, save_plan


@dataclass(frozen=True)
class SolverInfo:
    """What a solver actor holds.

    Attributes:
        fingerprint: of the weights as they are resident.
        device_name: as the driver calls it.
    """

    fingerprint: str
    hidden_size: int
    device_name: str
    dtype: str
    num_threads: int


@dataclass(frozen=True)
class Advance:
    """What one call of `advance` did.

    Attributes:
        attempts: those that ended.
        num_slots: slots still in the table.
        num_steps: passes over the table.
        num_tokens: positions passed forward and backward.
        seconds: wall time inside the call.
        checkpoints: what the attempts still under way can go on from, by job key, where it was asked for.
    """

    attempts: list[Attempt]
    num_slots: int
    num_steps: int
    num_tokens: float
    seconds: float
    checkpoints: dict[str, bytes] = field(default_factory=dict)


@ray.remote(max_restarts=0, max_task_retries=0)
class SolverActor:
    """Holds a frozen model and a slot table; the driver feeds it and takes attempts away."""

    def __init__(self, source: ModelSource, *, dtype: str, device: str, num_threads: int, token_budget: int):
        torch.set_num_threads(num_threads)
        self._lm = FrozenLM.load(source, device=device, dtype=dtype)
        self._solver = Solver(self._lm, token_budget=token_budget)
        name = torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
        self._info = SolverInfo(self._lm.fingerprint, self._lm.hidden_size, name, dtype, num_threads)

    def describe(self) -> SolverInfo:
        """What is resident here."""
        return self._info

    def plan(self, recipe: Recipe) -> VectorPlan:
        """The model's vector plan, from the cache or from a calibration of about a minute."""
        plan = load_plan(self._lm.fingerprint, recipe)
        if plan is None:
            plan = calibrate(self._solver, recipe)
            save_plan(self._lm.fingerprint, recipe, plan)
        return plan

    def probes(self, recipe: Recipe, plan: VectorPlan | None) -> list[Probe]:
        """Solved samples with their margins, to compare another engine with."""
        return make_probes(self._solver, recipe, plan)

    def difficulty(self, name: str, targets: list[Target]) -> list[float]:
        """A number for each target, higher where it looks harder."""
        return DIFFICULTIES[name](self._lm, targets)

    def advance(
        self, jobs: list[Job], seconds: float, checkpoints: dict[str, bytes] | None = None, *, keeps: bool = False
    ) -> Advance:
        """Take jobs in, then step for about `seconds`, or until nothing is left to do.

        Args:
            checkpoints: by job key, what some of the jobs go on from.
            keeps: whether checkpoints of what is under way are asked for.
        """
        for job in jobs:
            fail_point("solver.takes", job.target.id)
            content = (checkpoints or {}).get(job.key)
            if content is not None and (checkpoint := from_bytes(content, job.target)) is not None:
                self._solver.restore(job, checkpoint.states)
            else:
                self._solver.submit(job)
        started = time.monotonic()
        steps, tokens = self._solver.num_steps, self._solver.num_tokens
        attempts: list[Attempt] = []
        while not self._solver.is_idle and time.monotonic() - started < seconds:
            attempts += [self._listen(attempt) for attempt in self._solver.step()]
        fail_point("solver.before_answer")
        return Advance(
            attempts,
            num_slots=len(self._solver.active),
            num_steps=self._solver.num_steps - steps,
            num_tokens=self._solver.num_tokens - tokens,
            seconds=time.monotonic() - started,
            checkpoints={c.job.key: to_bytes(c) for c in self._solver.checkpoints()} if keeps else {},
        )

    def _listen(self, attempt: Attempt) -> Attempt:
        """With what greedy decoding says, where no verifier will: the failure's diagnosis needs it."""
        if attempt.is_candidate or not torch.isfinite(attempt.prompt_KD).all():
            return attempt
        said = greedy(self._lm, attempt.prompt_KD[None], max_tokens=len(attempt.job.target.token_ids))[0]
        return replace(attempt, generated_ids=tuple(said))
