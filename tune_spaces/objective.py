"""What a recipe is worth: figures over the outcomes of one sample of texts.

Owns: the objectives and their directions. Must not know: Ray, torch, Optuna's storage.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.pool.outcome import Outcome

Figures = dict[str, object]
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """Figures a search goes by, each with its direction.

    Attributes:
        metrics: keys of `figures`.
    """

    name: str
    metrics: tuple[str, ...]
    directions: tuple[Direction, ...]

    @property
    def modes(self) -> list[str]:
        """The directions as Ray says them: `min` or `max`."""
        return [direction[:3] for direction in self.directions]

    @property
    def is_single(self) -> bool:
        return len(self.metrics) == 1


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("cost", ("cost",), ("minimize",)),
        Objective("pareto", ("cost", "margin"), ("minimize", "maximize")),
    )
}
"""cost: passes to a verified exact text. pareto: that, and the margin its prompt has."""


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """What a trial reports.

    Returns:
        cost: mean passes over a text to its verdict `exact`, forward and backward; the budget where it never came; so
            far, where a text is under way.
        exact_frac: share of verified texts.
        margin: mean smallest margin in logits; a text that is not exact counts 0.
        positions: passed forward and backward, all texts together.
        texts: how many have ended.
        costs: id and cost of each text, for tests that pair texts; pairs, since Ray flattens a mapping.
    """
    return {
        "cost": statistics.fmean(outcome.cost for outcome in outcomes),
        "exact_frac": statistics.fmean(outcome.exact for outcome in outcomes),
        "margin": statistics.fmean(outcome.min_margin or 0.0 if outcome.exact else 0.0 for outcome in outcomes),
        "positions": sum(outcome.positions for outcome in outcomes),
        "texts": sum(not outcome.is_under_way for outcome in outcomes),
        "costs": [(outcome.id, outcome.cost) for outcome in outcomes],
    }
