"""The solver actor: a resident solver in a process of its own.

Owns: what Ray adds to it. Must not know: how it solves, the queue, the verifier.
"""

import ray

from orchestrator.cluster.nodes import Home, home
from orchestrator.fleet.resident_solver import ResidentSolver


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
