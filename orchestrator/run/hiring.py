"""Who works for a run, from what the cluster has and the texts need.

Owns: the choice of placement, room and engine, the first start of each actor. Must not know: what they will do.
"""

import os
from dataclasses import dataclass
from functools import partial

from orchestrator.cluster.nodes import Node, nodes
from orchestrator.console.progress import Reporter
from orchestrator.fleet import workers
from orchestrator.fleet.resident_solver import SolverInfo
from orchestrator.fleet.roster import Roster
from orchestrator.fleet.verifier_actor import EngineSpec
from orchestrator.run.preparation import Prepared
from orchestrator.sizing.placement import Placement, place, room_for_solvers
from orchestrator.sizing.room import Room, need_of_corpus
from orchestrator.storage.location import name_of


@dataclass(frozen=True)
class Hired:
    """The actors of a run, and what they were given.

    Attributes:
        name: of the run among all that the cluster has.
        dtype: the solvers' numerics.
        room: served length, tables, cache.
        spec: of the verifier.
        roster: the actors; one solver is ready.
        info: what that one tells of itself.
    """

    name: str
    dtype: str
    room: Room
    spec: EngineSpec
    roster: Roster
    info: SolverInfo

    @property
    def placement(self) -> Placement:
        return self.room.placement


def hire(prepared: Prepared, reporter: Reporter) -> Hired:
    """Place the actors, start them, wait for the first solver.

    Raises:
        UserError: they do not fit, or cannot load the model.
    """
    options = prepared.options
    up, is_fixed = nodes(), options.address is None
    placement = place(
        up,
        num_solvers=options.solvers,
        solver_gpus=options.solver_gpus,
        token_budget=options.token_budget,
        is_fixed=is_fixed,
    )
    dtype = options.dtype or placement.dtype
    room = _room(prepared, placement, up)
    spec = options.engine_spec(room, dtype)
    # Two runs may share a cluster and a folder name, hence the process id.
    name = f"{name_of(options.out)}-{os.getpid()}"
    roster = _roster(prepared, name, room.placement, dtype, spec, reporter)
    if placement.solver_gpus and (seats := room_for_solvers(up, room.placement)) < room.placement.num_solvers:
        reporter.say(f"the cluster has room for {seats} of them yet; the others join when it grows")
    return Hired(name, dtype, room, spec, roster, roster.first_ready())


def _roster(
    prepared: Prepared, name: str, placement: Placement, dtype: str, spec: EngineSpec, reporter: Reporter
) -> Roster:
    options = prepared.options
    solvers = "1 solver" if placement.num_solvers == 1 else f"{placement.num_solvers} solvers"
    reporter.stage(
        f"loading models: {solvers} on {placement.device} in {dtype}, verified by {spec.engine} in {spec.dtype}"
    )
    grows_along = options.address is not None and not options.solvers and placement.solver_gpus > 0
    return Roster(
        verifier=workers.verifier_worker(name, spec, placement),
        hire=lambda index: workers.solver_worker(name, index, options.source, placement, dtype),
        num_solvers=placement.num_solvers,
        has_room=partial(room_for_solvers, placement=placement) if grows_along else None,
        say=reporter.say,
        fingerprint=prepared.record.model.fingerprint if prepared.record else None,
    )


def _room(prepared: Prepared, placement: Placement, up: list[Node]) -> Room:
    """Room for the texts that are still to come, or as the run that goes on was given."""
    options, served = prepared.options, prepared.record.model.was_served if prepared.record else None
    need = need_of_corpus(prepared.intake.taken(), options.recipe)
    return options.room(placement, up, need, prepared.tokens.context, served)
