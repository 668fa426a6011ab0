"""Who works for a run: a crew for the texts that are still to come, started.

Owns: what an earlier call of the run decides of it, the wait for the first solver. Must not know: what they will do.
"""

import os
from dataclasses import dataclass

from orchestrator.console.progress import Reporter
from orchestrator.fleet.answers import SolverInfo
from orchestrator.fleet.crew import Crew, settle
from orchestrator.fleet.roster import Roster
from orchestrator.run.preparation import Prepared
from orchestrator.sizing.room import need_of_corpus
from orchestrator.storage.location import name_of


@dataclass(frozen=True)
class Hired:
    """The actors of a run, and what they were given.

    Attributes:
        name: of the run among all that the cluster has.
        roster: the actors; one solver is ready.
        info: what that one tells of itself.
    """

    name: str
    crew: Crew
    roster: Roster
    info: SolverInfo


def hire(prepared: Prepared, reporter: Reporter) -> Hired:
    """Place the actors, start them, wait for the first solver.

    Raises:
        UserError: they do not fit, cannot load the model, or would verify otherwise than the folder's rows are.
    """
    options, earlier = prepared.options, prepared.record
    need = need_of_corpus(prepared.intake.taken(), options.recipe)
    crew = settle(options, need, prepared.token_rule.context, served=earlier.model.was_served if earlier else None)
    prepared.require_same_proof(crew.spec.engine, crew.spec.dtype)  # which the solvers' own numerics may have decided
    # Two runs may share a cluster and a folder name, hence the process id.
    name = f"{name_of(options.out)}-{os.getpid()}"
    reporter.stage(f"loading models: {crew.line}")
    roster = crew.hire(name, reporter.say, earlier.model.fingerprint if earlier else None)
    return Hired(name, crew, roster, roster.first_ready())
