"""The solver actor: a resident solver in a process of its own.

Owns: what Ray adds to it. Must not know: how it solves, the queue, the verifier.
"""

from collections.abc import Collection
from dataclasses import replace

import ray

from engine.slots import Job
from orchestrator.cluster.nodes import Home, home
from orchestrator.fleet.blocks import taken_out, with_start
from orchestrator.fleet.brought import Block
from orchestrator.fleet.resident_solver import Advance, ResidentSolver


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

    @ray.method(num_returns=2)
    def advance(
        self,
        jobs: list[Job],
        seconds: float,
        checkpoints: dict[str, bytes] | None = None,
        *,
        keeps: bool = False,
        give_back: Collection[str] = (),
    ) -> tuple[Advance, Block]:
        """`ResidentSolver.advance`, the prompts of its attempts beside it."""
        jobs = [with_start(job) for job in jobs]
        advance = super().advance(jobs, seconds, checkpoints, keeps=keeps, give_back=give_back)
        attempts, block = taken_out(advance.attempts)
        return replace(advance, attempts=attempts), block
