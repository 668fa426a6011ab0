"""The solver actor: a resident solver in a process of its own.

Owns: what Ray adds to it. Must not know: how it solves, the queue, the verifier.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import ray

from engine.slots import Job
from orchestrator.cluster.nodes import Home, home
from orchestrator.fleet.answers import Advance
from orchestrator.fleet.blocks import states_present, states_taken_out, taken_out, with_start
from orchestrator.fleet.brought import Block
from orchestrator.fleet.resident_solver import ResidentSolver
from orchestrator.work.item import Kept


@ray.remote(max_restarts=0, max_task_retries=0)
class SolverActor(ResidentSolver):
    """Holds a frozen model and a slot table; the driver feeds it and takes attempts away."""

    def load(self) -> Home:
        """Load the model; where this runs.

        Not in the constructor: what that raises, Ray passes on as text.

        Raises:
            UserError, ModelError: why it cannot be had.
        """
        self.load_model()
        return home()

    def home(self) -> Home:
        """Where this runs."""
        return home()

    @ray.method(num_returns=3)
    def advance(
        self,
        jobs: list[Job],
        seconds: float,
        checkpoints: Mapping[str, Kept] | None = None,
        *,
        keeps: bool = False,
        give_back: Collection[str] = (),
    ) -> tuple[Advance, Block, Block]:
        """`ResidentSolver.advance`, the prompts of its attempts and the checkpoints beside it."""
        jobs = [with_start(job) for job in jobs]
        here = states_present(checkpoints or {})
        advance = super().advance(jobs, seconds, here, keeps=keeps, give_back=give_back)
        attempts, prompts = taken_out(advance.attempts)
        kept, states = states_taken_out(advance.checkpoints)
        return replace(advance, attempts=attempts, checkpoints=kept), prompts, states
