"""One trial: a recipe tried on the sample, a few texts at first.

Owns: the order of asking and reporting. Must not know: models, how a recipe was drawn, when to stop.
A trial holds no model and imports none: it borrows slots from the pool and waits.
"""

import math
from typing import Any

import ray
from ray import tune

from tune_spaces.objective import figures


def trial(config: dict[str, Any], *, pool: Any, rungs: list[list[str]], look_s: float = math.inf) -> None:
    """Report the figures after each rung, and while it goes on; whoever runs the trial may stop it at any report.

    Args:
        config: `recipe`, as JSON.
        pool: handle of a `SlotPoolActor`.
        rungs: ids of the texts that are tried together; every trial goes through the same ones in the same order.
        look_s: seconds between two reports inside a rung.
    """
    ids: list[str] = []
    for rung in rungs:
        ids += rung
        while True:
            outcomes = ray.get(pool.look.remote(config["recipe"], ids, look_s))
            tune.report(figures(outcomes))
            if not any(outcome.is_under_way for outcome in outcomes):
                break
