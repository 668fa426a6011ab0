"""The solvers and the verifier that some texts get: settled from what the cluster has, then hired.

Owns: the choice of placement, room and engine, when there is room for more. Must not know: what they will do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.model_source import ModelSource
from orchestrator.cluster.nodes import Node, nodes
from orchestrator.fleet import workers
from orchestrator.fleet.options import FleetOptions
from orchestrator.fleet.roster import Roster
from orchestrator.fleet.verifier_actor import EngineSpec
from orchestrator.sizing.placement import Placement, place, room_for_solvers, room_for_verifiers, room_on_processors
from orchestrator.sizing.sharing import Need


@dataclass(frozen=True)
class Crew:
    """Who is to be hired; nothing is started yet.

    Attributes:
        dtype: the solvers' numerics.
        spec: of the verifier.
        lease_s: seconds an actor may take over one call before it is replaced.
        grows: whether solvers join as the cluster grows.
        most_a_node: solvers on a node without GPUs; 0 where there are as many as were asked for.
        num_seats: solvers that have room when they are hired; the others join later.
        adds_verifiers: whether there may be more than the placement says where candidates wait.
    """

    source: ModelSource
    placement: Placement
    dtype: str
    spec: EngineSpec
    lease_s: float
    grows: bool = False
    most_a_node: int = 0
    num_seats: int | None = None
    adds_verifiers: bool = False

    @property
    def served_length(self) -> int:
        """Positions of a soft prompt, its target and what is decoded past it, at most."""
        return self.spec.context

    @property
    def line(self) -> str:
        """For a person: who they are."""
        placement, spec = self.placement, self.spec
        solvers = "1 solver" if placement.num_solvers == 1 else f"{placement.num_solvers} solvers"
        engine = spec.engine if placement.num_verifiers == 1 else f"{placement.num_verifiers} of {spec.engine}"
        return f"{solvers} on {placement.device} in {self.dtype}, verified by {engine} in {spec.dtype}"

    def hire(self, name: str, say: Callable[[str], None], fingerprint: str | None = None) -> Roster:
        """Begin to start them all.

        Args:
            name: of the run or search among all that the cluster has.
            fingerprint: of the weights that an earlier call had.
        """
        roster = Roster(
            hire=lambda index: workers.solver_worker(name, index, self.source, self.placement, self.dtype),
            hire_verifier=lambda index: workers.verifier_worker(name, index, self.spec, self.placement),
            num_solvers=self.placement.num_solvers,
            num_verifiers=self.placement.num_verifiers,
            has_room=self._has_room if self.grows else None,
            has_room_for_verifiers=self._has_room_for_verifiers if self.adds_verifiers else None,
            say=say,
            fingerprint=fingerprint,
        )
        if self.num_seats is not None and self.num_seats < self.placement.num_solvers:
            say(f"the cluster has room for {self.num_seats} of them yet; the others join when it grows")
        return roster

    def _has_room(self, up: list[Node]) -> int:
        """Solvers that these nodes hold."""
        if self.placement.solver_gpus:
            return room_for_solvers(up, self.placement)
        return room_on_processors(up, self.most_a_node)

    def _has_room_for_verifiers(self, up: list[Node]) -> int:
        """Verifiers that these nodes may come to hold."""
        return room_for_verifiers(up, self.placement.device)


def settle(options: FleetOptions, need: Need, context: int, *, served: int | None = None, most_a_node: int = 0) -> Crew:
    """Look at what the cluster has and share it; Ray must be connected.

    Args:
        need: of the texts.
        context: of the model, in positions.
        served: length that the run which goes on was served with, or None.
        most_a_node: solvers on a node without GPUs, one a processor up to here; 0 is one solver in all.
    Raises:
        UserError: they do not fit; nothing has been loaded.
    """
    up, is_cluster = nodes(), options.address is not None
    placement = place(
        up,
        num_solvers=options.solvers,
        num_verifiers=options.verifiers,
        solver_gpus=options.solver_gpus,
        table_positions=options.table_positions,
        is_fixed=not is_cluster,
        num_cpu_solvers=room_on_processors(up, most_a_node),
    )
    has_gpus = placement.solver_gpus > 0
    grows = is_cluster and not options.solvers and (has_gpus or most_a_node > 0)
    if grows and not has_gpus:
        placement = replace(placement, solver_cpus=1)
    dtype = options.dtype or placement.dtype
    room = options.room(placement, up, need, context, served)
    return Crew(
        source=options.source,
        placement=room.placement,
        dtype=dtype,
        spec=options.engine_spec(room, dtype),
        lease_s=options.lease_s,
        grows=grows,
        most_a_node=most_a_node,
        num_seats=room_for_solvers(up, room.placement) if has_gpus else None,
        adds_verifiers=is_cluster and options.verifiers is None,
    )
