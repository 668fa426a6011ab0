"""Which parameters explain what trials cost, where that is more than luck.

Owns: the test, and what is said where nothing passes it. Must not know: pages, how trials ran.

Compared is what trials cost on the texts of the first rung, where they brought all of these to an end. A parameter's
trials are put into groups: its values, or for numbers a quarter each from the smallest to the largest. Kruskal and
Wallis's test asks whether the groups' costs are of one distribution, Holm's correction that among all parameters tested
hardly one in twenty searches names any by luck.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kruskal

LEVEL = 0.05
"""Chance at which any parameter at all is named though none matters."""

LEAST_TRIALS = 20
"""Trials with a parameter without which nothing is said of it. Assumption."""

LEAST_IN_GROUP = 4
NUM_GROUPS = 4

Value = str | int | float | bool


@dataclass(frozen=True)
class Explained:
    """A parameter that matters.

    Attributes:
        share: of the variance of the costs' ranks that lies between its groups, 0 to 1.
        best: the group whose median cost is lowest, in words.
    """

    name: str
    share: float
    best: str
    num_trials: int


@dataclass(frozen=True)
class Explanation:
    """What the trials say about the parameters.

    Attributes:
        named: those that matter, most telling first.
        num_tested: parameters with trials enough.
    """

    named: list[Explained]
    num_tested: int


def explain(trials: Sequence[tuple[Mapping[str, Value], float]]) -> Explanation:
    """Parameters that explain the costs of trials.

    Args:
        trials: of each what was drawn and what it cost on the same texts.
    """
    tested: list[tuple[float, Explained]] = []
    for name in sorted({name for params, _ in trials for name in params}):
        mine = [(params[name], cost) for params, cost in trials if name in params]
        groups = _groups(mine) if len(mine) >= LEAST_TRIALS else {}
        if len(groups) > 1:
            tested.append(_tested(name, groups))
    tested.sort(key=lambda each: each[0])
    named = []
    for rank, (chance, explained) in enumerate(tested):
        if chance * (len(tested) - rank) > LEVEL:
            break
        named.append(explained)
    return Explanation(sorted(named, key=lambda each: -each.share), len(tested))


def _groups(values: Sequence[tuple[Value, float]]) -> dict[str, list[float]]:
    """Costs by group; groups of too few trials are left out."""
    groups: dict[str, list[float]] = {}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in values):
        numbers = np.array([float(value) for value, _ in values])
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, NUM_GROUPS + 1)))
        places = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, max(0, len(edges) - 2))
        for place, (_, cost) in zip(places, values, strict=True):
            low, high = edges[place], edges[min(place + 1, len(edges) - 1)]
            groups.setdefault(f"{low:.3g} to {high:.3g}", []).append(cost)
    else:
        for value, cost in values:
            groups.setdefault(str(value), []).append(cost)
    return {name: costs for name, costs in groups.items() if len(costs) >= LEAST_IN_GROUP}


def _tested(name: str, groups: dict[str, list[float]]) -> tuple[float, Explained]:
    """The chance that luck alone makes groups so unlike, and what would be said of them."""
    num_trials = sum(map(len, groups.values()))
    best = min(groups, key=lambda group: float(np.median(groups[group])))
    if len({cost for costs in groups.values() for cost in costs}) == 1:
        return 1.0, Explained(name, 0.0, best, num_trials)
    found = kruskal(*groups.values())
    share = float(found.statistic) / (num_trials - 1)
    return float(found.pvalue), Explained(name, share, best, num_trials)
