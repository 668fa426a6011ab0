"""The run's actors: where and how each is started.

Owns: actor options and process environments. Must not know: the queue, results.
"""

import logging
import os
from contextlib import nullcontext
from typing import Any

import ray
from ray.exceptions import RayError

from engine.model_source import ModelSource
from orchestrator.cluster import ray_start, ray_token
from orchestrator.cluster.nodes import nodes, preferably_on
from orchestrator.fleet.solver_actor import SolverActor
from orchestrator.fleet.verifier_actor import EngineSpec, VerifierActor
from orchestrator.fleet.worker import Worker, users_mistake
from orchestrator.process import interrupts
from orchestrator.sizing.placement import Placement, seat, seat_of_verifier

NAMESPACE = "verbatim"
# Freed tensors go back to the C library's pool instead of the kernel: a pass allocates the same sizes again at once.
# Measured 1.2 times faster training of the pocket model on two cores, LOG 2026-11-20.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}


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
    needs = _needs(num_cpus=1 if placement.solver_gpus else placement.solver_cpus, num_gpus=placement.solver_gpus)

    def start(name: str) -> Any:
        threads, where = placement.solver_threads, {}
        if placement.solver_cpus:
            where = {"scheduling_strategy": "SPREAD"}
        elif not placement.solver_gpus:
            place = seat(index, placement.num_solvers, nodes())
            threads, where = place.num_threads, {"scheduling_strategy": preferably_on(place.node_id)}
        return SolverActor.options(
            name=name,
            num_cpus=needs.get("CPU", 0),
            num_gpus=needs.get("GPU", 0),
            runtime_env={"env_vars": {**KEEP_MEMORY, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}},
            **where,
        ).remote(
            source,
            placement.solver_room,
            dtype=dtype,
            device=placement.device,
            num_threads=threads,
        )

    return Worker(f"solver-{index}", start, run_name, needs)


def verifier_worker(run_name: str, index: int, spec: EngineSpec, placement: Placement) -> Worker:
    """A verifier, started; without GPUs the first sits where Ray likes, mostly beside the driver, others elsewhere."""
    needs = _needs(num_cpus=1 if placement.verifier_gpus else 0, num_gpus=placement.verifier_gpus)

    def start(name: str) -> Any:
        # On a CPU the engine must not pin itself to the cores the solver computes on.
        threads, where = str(placement.verifier_threads), {}
        if index and not needs:
            here = ray.get_runtime_context().get_node_id()
            where = {"scheduling_strategy": preferably_on(seat_of_verifier(index, nodes(), here))}
        env = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        return VerifierActor.options(
            name=name,
            num_cpus=needs.get("CPU", 0),
            num_gpus=needs.get("GPU", 0),
            runtime_env={"env_vars": env if placement.device == "cpu" else {}},
            **where,
        ).remote(spec)

    return Worker(f"verifier-{index}", start, run_name, needs)


def _needs(*, num_cpus: float, num_gpus: float) -> dict[str, float]:
    """What an actor takes of a node, as Ray names it; nothing where it takes nothing."""
    return {name: number for name, number in (("CPU", num_cpus), ("GPU", num_gpus)) if number}


def get(refs: Any) -> Any:
    """`ray.get`, the user's mistakes inside an actor told as such."""
    try:
        return ray.get(refs)
    except RayError as error:
        mistake = users_mistake(error)
        if mistake is not None:
            raise mistake from error
        raise
