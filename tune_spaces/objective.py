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
        metrics: keys of `figures`; the first decides which trial is the best.
        paired: key of `figures` under which each text's share of the first metric stands, the lower the better.
    """

    name: str
    metrics: tuple[str, ...]
    directions: tuple[Direction, ...]
    paired: str = "costs"

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
        Objective("capacity", ("prefix_tokens",), ("maximize",), paired="missing"),
    )
}
"""cost: passes to a verified exact text. pareto: that, and the margin its prompt has. capacity: how long a prefix the
budget makes exact, of texts that are longer than their vectors can hold."""


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """What a trial reports.

    Returns:
        cost: mean passes over a text to its verdict `exact`, forward and backward; the budget where it never came; so
            far, where a text is under way.
        exact_frac: share of verified texts.
        margin: mean smallest margin in logits; a text that is not exact counts 0.
        positions: passed forward and backward, all texts together.
        texts: how many have ended.
        prefix_tokens: mean longest prefix that was exact, in tokens; of ended texts alone, 0 before one has ended.
        costs: id and cost of each text, for tests that pair texts; pairs, since Ray flattens a mapping.
        missing: id of each text and its tokens beyond that prefix; 0 where it is under way, the least it can come to.
    """
    ended = [outcome for outcome in outcomes if not outcome.is_under_way]
    return {
        "cost": statistics.fmean(outcome.cost for outcome in outcomes),
        "exact_frac": statistics.fmean(outcome.exact for outcome in outcomes),
        "margin": statistics.fmean(outcome.min_margin or 0.0 if outcome.exact else 0.0 for outcome in outcomes),
        "positions": sum(outcome.positions for outcome in outcomes),
        "texts": len(ended),
        "prefix_tokens": statistics.fmean(outcome.prefix_tokens for outcome in ended) if ended else 0.0,
        "costs": [(outcome.id, outcome.cost) for outcome in outcomes],
        "missing": [
            (outcome.id, 0 if outcome.is_under_way else outcome.num_tokens - outcome.prefix_tokens)
            for outcome in outcomes
        ],
    }
