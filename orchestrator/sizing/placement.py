"""Where actors run: how many solvers, and which share of which device each actor gets.

Owns: the sharing of CPUs and GPUs. Must not know: what the actors do.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.cluster.nodes import Node
from orchestrator.console.errors import UserError
from orchestrator.sizing.sharing import KINDS
from orchestrator.sizing.table_size import SolverRoom

TINY = 1e-6
"""Shares of a GPU are sums of decimal fractions."""


@dataclass(frozen=True)
class Placement:
    """Resources of the run's actors.

    Attributes:
        num_solvers: solver actors.
        device: `cpu` or `cuda`.
        solver_gpus: GPUs of each solver, fractions allowed.
        verifier_gpus: GPUs of each verifier.
        solver_threads: torch threads of the first solver; on a CPU each has those of its seat.
        table_positions: read positions in each solver's table; 0 until its memory has been looked at.
        kept_positions: of the largest pass whose memory a solver has; 0 until it has been looked at.
        verifier_threads: threads of a verifier on the CPU.
        is_budget_fixed: whether the table's size was asked for, so that it is not to be found by measuring.
        solver_bytes: what each solver may take of its card; 0 until it has been looked at.
        served_length: positions that the verifier reads at most; None is the model's context.
        solver_cpus: processors that Ray reserves for each solver without a GPU; 0 where it is seated by its number.
        num_verifiers: verifier actors.
    """

    num_solvers: int
    device: str
    solver_gpus: float
    verifier_gpus: float
    solver_threads: int
    table_positions: int = 0
    verifier_threads: int = 1
    is_budget_fixed: bool = False
    solver_bytes: int = 0
    served_length: int | None = None
    solver_cpus: int = 0
    num_verifiers: int = 1
    kept_positions: int = 0

    @property
    def solver_room(self) -> SolverRoom:
        """What each solver is told of all this."""
        num_bytes = self.solver_bytes if self.device == "cuda" else 0
        most = KINDS[self.device].most_positions
        return SolverRoom(
            self.table_positions, most, self.served_length, num_bytes, self.is_budget_fixed, self.kept_positions
        )

    def company(self, num_nodes: int) -> list[tuple[int, int]]:
        """Who shares a card, or a machine without: (solvers, verifiers), for every kind of card."""
        if self.device == "cpu":
            nodes = max(1, num_nodes)
            return [(math.ceil(self.num_solvers / nodes), math.ceil(self.num_verifiers / nodes))]
        if not self.num_solvers:
            return [(0, 1)]
        beside = min(self.num_solvers, self.solvers_beside)
        elsewhere = min(self.solvers_a_card, self.num_solvers - beside)
        return [(beside, 1)] + ([(elsewhere, 0)] if elsewhere else [])

    @property
    def solvers_a_card(self) -> int:
        """Solvers that a card holds."""
        return int(1 / self.solver_gpus + TINY)

    @property
    def solvers_beside(self) -> int:
        """Solvers that a card holds beside a verifier."""
        return int((1 - self.verifier_gpus) / self.solver_gpus + TINY)

    @property
    def dtype(self) -> str:
        """The solver's numerics where none are asked for."""
        return "float32" if self.device == "cpu" else "bfloat16"


def place(
    nodes: Sequence[Node],
    *,
    num_solvers: int | None = None,
    num_verifiers: int | None = None,
    solver_gpus: float | None = None,
    table_positions: int | None = None,
    is_fixed: bool = True,
    num_cpu_solvers: int = 1,
) -> Placement:
    """Share what a cluster has.

    One GPU is split between solver and verifier; with more, each solver takes one and each verifier another.

    Args:
        nodes: of the cluster.
        num_solvers: asked for, or None.
        num_verifiers: asked for; None is one.
        solver_gpus: GPUs of each solver, asked for, or None.
        table_positions: asked for, or None.
        is_fixed: whether the cluster is all there will ever be; others may grow until all solvers have room.
        num_cpu_solvers: how many there are without GPUs, unless asked for.
    Raises:
        UserError: more GPUs asked for than a fixed cluster has, or more than one for a solver.
    """
    if solver_gpus is not None and solver_gpus > 1:
        raise UserError(
            f"--solver-gpus {solver_gpus:g}: a solver computes on one card, so a second would lie idle; "
            "give at most 1, and --solvers for more of them"
        )
    num_gpus = sum(node.num_gpus for node in nodes)
    verifiers = num_verifiers or 1
    if solver_gpus == 0 or (num_gpus == 0 and solver_gpus is None):
        solvers = num_solvers or max(1, num_cpu_solvers)
        threads = seat(0, solvers, nodes).num_threads
        return Placement(solvers, "cpu", 0, 0, threads, table_positions or 0, num_verifiers=verifiers)
    if solver_gpus is None:
        solver_gpus = 0.6 if num_gpus == 1 else 1.0
    verifier_gpus = 0.4 if num_gpus == 1 else 1.0
    threads = os.cpu_count() or 1
    placement = Placement(1, "cuda", solver_gpus, verifier_gpus, threads, table_positions or 0, num_verifiers=verifiers)
    solvers = num_solvers or max(1, room_for_solvers(nodes, placement))
    if is_fixed and solvers > room_for_solvers(nodes, placement):
        judges = "the verifier" if verifiers == 1 else f"each of --verifiers {verifiers}"
        raise UserError(
            f"--solvers {solvers} x --solver-gpus {solver_gpus:g} and {verifier_gpus:g} for {judges}: "
            f"the cluster has {num_gpus:g} GPUs; ask for fewer"
        )
    return replace(placement, num_solvers=solvers)


def room_for_solvers(nodes: Sequence[Node], placement: Placement) -> int:
    """Solvers that the GPUs of these nodes hold beside the verifiers, each of which is on a card of its own.

    A share of a GPU does not cross to the next.
    """
    cards = sum(int(node.num_gpus + TINY) for node in nodes)
    shared, whole = placement.num_verifiers, cards - placement.num_verifiers
    return whole * placement.solvers_a_card + shared * placement.solvers_beside if whole >= 0 else 0


def room_for_verifiers(nodes: Sequence[Node], device: str) -> int:
    """Verifiers that a growing fleet may come to: half of the cards, or one a machine without."""
    if device == "cuda":
        return max(1, sum(int(node.num_gpus + TINY) for node in nodes) // 2)
    return max(1, sum(node.num_cpus > 0 for node in nodes))


def room_on_processors(nodes: Sequence[Node], most_a_node: int) -> int:
    """Solvers without a GPU that these nodes hold, one a processor up to a bound."""
    return sum(min(node.num_cpus, most_a_node) for node in nodes)


@dataclass(frozen=True)
class Seat:
    """Where a solver without a GPU goes, and the threads it gets there."""

    node_id: str
    num_threads: int


def seat(index: int, num_solvers: int, nodes: Sequence[Node]) -> Seat:
    """Spread CPU solvers over the nodes that have processors, those of one node sharing them.

    Ray has them all on one node otherwise: an actor that asks for no resource fits anywhere.
    """
    able = [node for node in nodes if node.num_cpus and not node.is_draining] or list(nodes)
    place = index % len(able)
    num_neighbours = len(range(place, num_solvers, len(able)))
    return Seat(able[place].id, max(1, able[place].num_cpus // max(1, num_neighbours)))


def seat_of_verifier(index: int, nodes: Sequence[Node], here: str) -> str:
    """The node of a verifier without a GPU that is not the first: the others first, the driver's last."""
    able = [node for node in nodes if node.num_cpus and not node.is_draining] or list(nodes)
    line = [node for node in able if node.id != here] + [node for node in able if node.id == here]
    return line[(index - 1) % len(line)].id


def place_judge(num_gpus: float, *, num_cpus: int | None = None) -> Placement:
    """A verifier with nobody beside it: one GPU, or all processors."""
    cpus = num_cpus or os.cpu_count() or 1
    if num_gpus == 0:
        return Placement(0, "cpu", 0, 0, cpus, verifier_threads=cpus)
    return Placement(0, "cuda", 0, min(1.0, num_gpus), cpus)
