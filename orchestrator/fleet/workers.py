"""The run's actors: started, named, replaced.

Owns: actor options and process environments. Must not know: the queue, results.
"""

import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from engine.model_source import ModelError, ModelSource
from orchestrator.cluster import ray_start, ray_token
from orchestrator.cluster.nodes import Home, end_process, nodes, preferably_on
from orchestrator.console.errors import FleetError, UserError
from orchestrator.fleet.solver_actor import SolverActor
from orchestrator.fleet.under_way import UnderWay
from orchestrator.fleet.verifier_actor import EngineSpec, VerifierActor
from orchestrator.process import interrupts
from orchestrator.process.failures import StartError, reason
from orchestrator.sizing.placement import Placement, seat

NAMESPACE = "verbatim"
MAX_REPLACEMENTS = 3
"""Times one actor is started anew, nothing done in between, before it is given up. Assumption."""

LEASE_S = 600.0
"""Seconds an actor may take over one call before it is replaced. A slice is 2 s; an engine's first call compiles."""

# Freed tensors go back to the C library's pool instead of the kernel: a pass allocates the same sizes again at once.
# Measured 1.2 times faster training of the pocket model on two cores, LOG 2026-11-20.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}


@dataclass
class Worker:
    """An actor from its start to its last replacement, and the one call it has in flight.

    Attributes:
        start: begins the start of an actor of that name; Ray goes on with it when there is room.
        run_name: of the run; part of the actor's name.
        home: where it runs; None while it is starting.
        in_flight: the call that is under way, `home` itself while it is starting.
        asked: when that call was made.
        num_replacements: times it was started anew.
        num_deaths: those deaths that were its own, since it last did something.
        has_loaded: it has loaded its model once, so that it can be loaded.
        leaves_since: when its node was seen to drain.
        is_in_doubt: its call failed for a reason that leaves open whether it lives.
        load: ids of what it judges.
        longest: what takes longest in its table.
    """

    name: str
    start: Callable[[str], Any]
    run_name: str
    actor: Any = None
    home: Home | None = None
    in_flight: Any = None
    asked: float = 0.0
    num_replacements: int = 0
    num_deaths: int = 0
    has_loaded: bool = False
    leaves_since: float | None = None
    is_in_doubt: bool = False
    load: list[str] = field(default_factory=list)
    longest: tuple[UnderWay, ...] = ()

    def __post_init__(self) -> None:
        self._start()

    @property
    def has_started(self) -> bool:
        """Whether it has told where it runs: its model is loaded."""
        return self.home is not None

    @property
    def is_ready(self) -> bool:
        """Whether it takes work."""
        return self.has_started and self.leaves_since is None

    @property
    def is_busy(self) -> bool:
        """Whether it is at work on a call."""
        return self.has_started and self.in_flight is not None

    @property
    def has_said_goodbye(self) -> bool:
        """Whether its last call was made in the knowledge that it leaves."""
        return self.leaves_since is not None and self.asked >= self.leaves_since

    @property
    def has_no_life_left(self) -> bool:
        """Whether one more death of its own is one too many."""
        return self.num_deaths >= MAX_REPLACEMENTS

    def ask(self, ref: Any) -> None:
        """The call that is in flight from here on."""
        self.in_flight, self.asked = ref, time.monotonic()

    def await_start(self) -> None:
        """Wait until it has told where it runs.

        Raises:
            UserError, ModelError: it cannot load its model.
            RayError: it died, or could load its model before and cannot now.
        """
        if not self.has_started:
            try:
                self.settle_in(ray.get(self.in_flight))
            except RayError as error:
                raise self.refusal(error) from error

    def settle_in(self, home: Home) -> None:
        """It has loaded its model."""
        self.home, self.in_flight, self.has_loaded = home, None, True

    def refusal(self, error: RayError) -> Exception:
        """What its failure to start means: the user's mistake, or a death where it has been able to start before.

        A model that could be loaded and cannot now lacks the memory that its own last process still holds, perhaps.
        """
        mistake = users_mistake(error)
        return error if mistake is None or (self.has_loaded and isinstance(mistake, StartError)) else mistake

    def obituary(self, cause: Exception, *, is_own_fault: bool = True) -> str:
        """What a person is told when it was lost; to be asked before it is replaced."""
        when = "" if self.has_started else " while loading"
        if not is_own_fault:
            return f"{self.name} died{when} with its node; starting it anew"
        told = f"{self.name} died{when} ({reason(cause)})"
        if self.has_no_life_left:
            return told
        return f"{told}; starting it anew ({self.num_deaths + 2} of {MAX_REPLACEMENTS + 1})"

    def ask_again(self) -> None:
        """Ask whether it lives; the lease of the call that failed goes on."""
        self.in_flight, self.is_in_doubt = self.actor.home.remote(), True

    def is_overdue(self, lease_s: float) -> bool:
        """Whether its call has been in flight for longer than a lease; a start takes as long as it takes."""
        return self.is_busy and time.monotonic() - self.asked > lease_s

    def stop(self) -> None:
        """Give up on the actor, whatever it is doing."""
        ray.kill(self.actor)
        if self.home is not None:
            end_process(self.home)

    def replace(self, cause: Exception, *, is_own_fault: bool = True) -> None:
        """Start the actor anew after it died or was stopped.

        Args:
            is_own_fault: whether it counts as a death; a node's does not.
        Raises:
            FleetError: it died too often.
        """
        if is_own_fault and self.has_no_life_left:
            raise FleetError(f"{self.name} died {self.num_deaths + 1} times, last: {reason(cause)}") from cause
        self.num_deaths += is_own_fault
        self.num_replacements += 1
        self.home = self.leaves_since = None
        self.is_in_doubt = False
        self._start()

    def _start(self) -> None:
        """Start under a name a person can read in the dashboard; a dead actor's name may still be taken."""
        self.longest = ()
        self.actor = self.start(f"{self.run_name}/{self.name}/{self.num_replacements}")
        self.ask(self.actor.load.remote())


def connect(address: str | None, *, dashboard: bool) -> str | None:
    """Join a Ray cluster, or start one that this machine alone can reach; where its dashboard is, for a person.

    Raises:
        UserError: no such cluster, or it does not let this process in.
        FleetError: no local one came up.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # None asks for a dashboard and does without where none comes up in time.
    wanted = {"include_dashboard": None if dashboard else False, "dashboard_host": "127.0.0.1"}
    local: dict[str, Any] = wanted | ray_start.socket_folder()
    joined = ray_start.require_joinable(address)
    with ray_start.told(address), nullcontext() if address else ray_start.on_loopback():
        ray_token.settle(joined)
        context = ray.init(
            address=address or "local",  # without an address Ray would join whatever cluster it finds here
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.CRITICAL,  # what Ray has to say it also raises
            ignore_reinit_error=True,
            **({} if address else local),
        )
    interrupts.take_over()
    return _told_dashboard(context.dashboard_url, is_local=address is None) if dashboard else None


def _told_dashboard(url: str | None, *, is_local: bool) -> str | None:
    if not url:
        return "none came up in time; everything goes on without" if is_local else None
    return f"http://{url}" + " (asks for the token that `ray get-auth-token` prints)" * ray_token.is_asked_for()


def solver_worker(run_name: str, index: int, source: ModelSource, placement: Placement, dtype: str) -> Worker:
    """A solver, started."""

    def start(name: str) -> Any:
        threads, where = placement.solver_threads, {}
        if placement.solver_cpus:
            where = {"scheduling_strategy": "SPREAD"}
        elif not placement.solver_gpus:
            place = seat(index, placement.num_solvers, nodes())
            threads, where = place.num_threads, {"scheduling_strategy": preferably_on(place.node_id)}
        return SolverActor.options(
            name=name,
            num_cpus=1 if placement.solver_gpus else placement.solver_cpus,
            num_gpus=placement.solver_gpus,
            runtime_env={"env_vars": {**KEEP_MEMORY, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}},
            **where,
        ).remote(
            source,
            placement.solver_room,
            dtype=dtype,
            device=placement.device,
            num_threads=threads,
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
    except RayError as error:
        mistake = users_mistake(error)
        if mistake is not None:
            raise mistake from error
        raise


def users_mistake(error: RayError) -> Exception | None:
    """The user's mistake that an actor's method failed with, if it was one."""
    if isinstance(error, RayTaskError):
        if isinstance(error.cause, RayError):  # an actor that was asked by an actor
            return users_mistake(error.cause)
        return error.cause if isinstance(error.cause, (UserError, ModelError)) else None
    return None
