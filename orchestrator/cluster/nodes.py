"""The cluster's nodes as Ray tells of them, and the processes on them.

Owns: which nodes are up or about to go, their memory, whose fault a death was, ending a process for good. Must not
know: what runs.

Ray 2.60 has no public call for nodes that drain: `get_draining_nodes` is what Ray Train and Ray Data go by. Nor does it
say in public whether a cluster can grow.
"""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private.state import state as ray_state
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.console.errors import UserError
from orchestrator.process.memory import Memory

UNCERTAIN = (ActorUnavailableError, ObjectLostError)
"""Errors that leave open whether an actor lives: Ray tells of a lost connection before it knows that a node died."""

CANNOT_IMPORT = "failed to import on the worker"
"""What Ray 2.60 says of a function or actor whose module is not there. Source: ray/_private/function_manager.py."""


@dataclass(frozen=True)
class Node:
    """A node that is up.

    Attributes:
        is_draining: takes nothing new and is about to go: pre-empted, idle, or told to by `ray drain-node`.
    """

    id: str
    num_cpus: int
    num_gpus: float
    is_draining: bool


@dataclass(frozen=True)
class Home:
    """Where an actor's process runs; `born` tells it from a later process of the same number."""

    node_id: str
    pid: int
    born: str


def home() -> Home:
    """The calling actor's own."""
    return Home(ray.get_runtime_context().get_node_id(), os.getpid(), _born(os.getpid()))


def has_place(actor: Any) -> bool:
    """Whether Ray has found a node for an actor that was asked for."""
    return ray_state.actor_table(actor._actor_id.hex()).get("State") == "ALIVE"


def nodes() -> list[Node]:
    """The nodes that are up, in an order that stays."""
    draining = ray_state.get_draining_nodes()
    up = [
        Node(
            node["NodeID"],
            num_cpus=int(node["Resources"].get("CPU", 0)),
            num_gpus=node["Resources"].get("GPU", 0.0),
            is_draining=node["NodeID"] in draining,
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(up, key=lambda node: node.id)


def is_nodes_fault(error: Exception, home: Home | None) -> bool:
    """Whether an actor died because its node did, or was about to."""
    if isinstance(error, RayActorError) and error.preempted:
        return True
    return home is not None and home.node_id not in {node.id for node in nodes() if not node.is_draining}


def only_on(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Run there or fail."""
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def preferably_on(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Run there; elsewhere if the node is gone by then."""
    return NodeAffinitySchedulingStrategy(node_id, soft=True)


def end_process(home: Home) -> None:
    """Have a process killed from its own node, soon: `ray.kill` leaves one that is stopped with all its memory."""
    _end.options(scheduling_strategy=only_on(home.node_id)).remote(home)


@ray.remote(num_cpus=0, max_retries=0)
def _end(home: Home) -> None:
    try:
        if _born(home.pid) == home.born:
            os.kill(home.pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass  # it went by itself


def _born(pid: int) -> str:
    """Ticks from the machine's start to the process's: field 22 of Linux' proc_pid_stat, the 20th after the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def memory_of(nodes: Sequence[Node], device: str) -> Memory:
    """The least that a card, or a node without, has: any actor may come to be there.

    Where no card is up yet the first that comes is waited for.

    Raises:
        UserError: a node cannot import this package.
    """
    if device == "cpu" and len(nodes) == 1:
        return Memory.here(device)
    share = {"num_gpus": 0.01} if device == "cuda" else {}
    up = [node for node in nodes if not node.is_draining and (node.num_gpus if share else node.num_cpus)]
    looks = [_look.options(scheduling_strategy=only_on(node.id), **share).remote(device) for node in up]
    try:
        found = ray.get(looks or [_look.options(**share).remote(device)])
    except RayTaskError as error:
        if CANNOT_IMPORT not in str(error.cause):
            raise
        raise _told_of_import(error) from error
    return min(found, key=lambda memory: memory.free)


def _told_of_import(error: RayTaskError) -> UserError:
    """That a node has not what is to run on it, in words."""
    where = re.search(r"\bip=([^\s,)]+)", str(error))
    missing = str(error.cause).strip().splitlines()[-1]
    return UserError(
        f"{f'the node at {where[1]}' if where else 'a node'} cannot import Verbatim ({missing}); install the same "
        "version in the environment that Ray was started from there, or submit the run with deploy/runtime_env.yaml"
    )


@ray.remote(num_cpus=0)
def _look(device: str) -> Memory:
    return Memory.here(device)
