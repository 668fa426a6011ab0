"""The run's actors: started, named, replaced.

Owns: actor options and process environments. Must not know: the queue, results.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from engine.frozen_lm import ModelError, ModelSource
from orchestrator import interrupts
from orchestrator.errors import FleetError, UserError
from orchestrator.placement import Placement
from orchestrator.solver_actor import SolverActor
from orchestrator.verifier_actor import EngineSpec, VerifierActor

NAMESPACE = "verbatim"
MAX_REPLACEMENTS = 3
"""Times one actor is started anew before the run gives up. Assumption."""

# Freed tensors go back to the C library's pool instead of the kernel: a pass allocates the same sizes again at once.
# Measured 1.2 times faster training of the pocket model on two cores, LOG 2026-11-20.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}


@dataclass
class Worker:
    """An actor, and the one call it has in flight."""

    name: str
    start: Callable[[str], Any]
    run_name: str
    actor: Any = None
    in_flight: Any = None
    asked: float = 0.0
    num_replacements: int = 0
    load: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._start()

    def ask(self, ref: Any) -> None:
        """The call that is in flight from here on."""
        self.in_flight, self.asked = ref, time.monotonic()

    def is_overdue(self, lease_s: float) -> bool:
        """Whether its call has been in flight for longer than a lease."""
        return self.in_flight is not None and time.monotonic() - self.asked > lease_s

    def stop(self) -> None:
        """Give up on the actor, whatever it is doing."""
        ray.kill(self.actor)

    def replace(self, cause: Exception) -> None:
        """Start the actor anew after it died.

        Raises:
            FleetError: it died too often.
        """
        if self.num_replacements >= MAX_REPLACEMENTS:
            raise FleetError(f"{self.name} died {self.num_replacements + 1} times, last: {last_line(cause)}") from cause
        self.num_replacements += 1
        self.in_flight = None
        self._start()

    def _start(self) -> None:
        """Start under a name a person can read in the dashboard; a dead actor's name may still be taken."""
        self.actor = self.start(f"{self.run_name}/{self.name}/{self.num_replacements}")


def connect(address: str | None, *, dashboard: bool) -> str | None:
    """Join a Ray cluster, or start one in this process; the dashboard's address, if there is one."""
    # Ray turns token authentication on by itself for a local cluster; either way it is set on purpose.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local: dict[str, Any] = {} if address else {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1"}
    context = ray.init(
        address=address or "local",  # without an address Ray would join whatever cluster it finds here
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level=logging.ERROR,
        ignore_reinit_error=True,
        **local,
    )
    interrupts.take_over()
    return context.dashboard_url or None


def solver_worker(run_name: str, index: int, source: ModelSource, placement: Placement, dtype: str) -> Worker:
    """A solver, started."""

    def start(name: str) -> Any:
        threads = str(placement.solver_threads)
        return SolverActor.options(
            name=name,
            num_cpus=1 if placement.solver_gpus else 0,
            num_gpus=placement.solver_gpus,
            runtime_env={"env_vars": {**KEEP_MEMORY, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}},
        ).remote(
            source,
            dtype=dtype,
            device=placement.device,
            num_threads=placement.solver_threads,
            token_budget=placement.token_budget,
        )

    return Worker(f"solver-{index}", start, run_name)


def verifier_worker(run_name: str, spec: EngineSpec, placement: Placement) -> Worker:
    """The verifier, started."""

    def start(name: str) -> Any:
        # On a CPU the engine must not pin itself to the cores the solver computes on.
        threads = str(placement.verifier_threads)
        env = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        return VerifierActor.options(
            name=name,
            num_cpus=1 if placement.verifier_gpus else 0,
            num_gpus=placement.verifier_gpus,
            runtime_env={"env_vars": env if placement.device == "cpu" else {}},
        ).remote(spec)

    return Worker("verifier", start, run_name)


def get(refs: Any) -> Any:
    """`ray.get`, the user's mistakes inside an actor told as such."""
    try:
        return ray.get(refs)
    except RayTaskError as error:
        if isinstance(error.cause, (UserError, ModelError)):
            raise error.cause from error
        raise
    except RayActorError as error:
        for line in str(error).splitlines():
            for kind in (UserError, ModelError):
                if line.startswith(f"{kind.__module__}.{kind.__name__}: "):
                    raise kind(line.split(": ", 1)[1]) from error
        raise


def last_line(error: Exception) -> str:
    """Where Ray says what happened; the lines above are the same for every death."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
