"""The solver actor: one resident frozen model behind three small methods.

Owns: nothing but the engine's solver. Must not know: the queue, the verifier, files of a run.
"""

import time
from dataclasses import dataclass

import ray
import torch

from engine.capacity import VectorPlan, calibrate
from engine.frozen_lm import FrozenLM, ModelSource
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
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
    """

    attempts: list[Attempt]
    num_slots: int
    num_steps: int
    num_tokens: int
    seconds: float


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

    def advance(self, jobs: list[Job], seconds: float) -> Advance:
        """Take jobs in, then step for about `seconds`, or until nothing is left to do."""
        for job in jobs:
            self._solver.submit(job)
        started = time.monotonic()
        steps, tokens = self._solver.num_steps, self._solver.num_tokens
        attempts: list[Attempt] = []
        while not self._solver.is_idle and time.monotonic() - started < seconds:
            attempts += self._solver.step()
        return Advance(
            attempts,
            num_slots=len(self._solver.active),
            num_steps=self._solver.num_steps - steps,
            num_tokens=self._solver.num_tokens - tokens,
            seconds=time.monotonic() - started,
        )
