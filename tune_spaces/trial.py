"""One trial: a recipe tried on the sample, a few texts at first.

Owns: the order of asking and reporting. Must not know: models, how a recipe was drawn, when to stop.
A trial holds no model and imports none: it borrows slots from the pool and waits.
"""

from typing import Any

import ray
from ray import tune

from orchestrator.outcome import Outcome
from tune_spaces.objective import figures


def trial(config: dict[str, Any], *, pool: Any, rungs: list[list[str]]) -> None:
    """Report the figures after each rung; whoever runs the trial may stop it there.

    Args:
        config: `recipe`, as JSON.
        pool: handle of a `SlotPoolActor`.
        rungs: ids of the texts that are tried together; every trial goes through the same ones in the same order.
    """
    outcomes: list[Outcome] = []
    for ids in rungs:
        outcomes += ray.get(pool.solve.remote(config["recipe"], ids))
        tune.report(figures(outcomes))
