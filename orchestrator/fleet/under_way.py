"""What goes on inside texts that take long.

Owns: which ones are told of, and how. Must not know: how a slot is optimised, who shows it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest

from engine.slots import Slot
from orchestrator.work.item import TERMINAL, State

LONG_STEPS = 30
"""Steps from which an attempt is told of; most texts need fewer. Assumption."""

MOST = 2
"""Attempts told of."""


@dataclass(frozen=True)
class UnderWay:
    """An attempt in a solver's table.

    Attributes:
        id: of the text.
        steps: of this attempt.
        num_right: tokens that the best prompt so far has right, each under the true ones before it.
    """

    id: str
    steps: int
    num_right: int
    num_tokens: int

    def __str__(self) -> str:
        return f"{self.id}: step {self.steps}, {self.num_right} of {self.num_tokens} tokens right"


def longest(slots: Iterable[Slot]) -> tuple[UnderWay, ...]:
    """The attempts that have taken the most steps."""
    families: dict[str, list[Slot]] = {}
    for slot in slots:
        if slot.step >= LONG_STEPS:
            families.setdefault(slot.job.key, []).append(slot)
    return tuple(nlargest(MOST, map(_under_way, families.values()), key=lambda each: each.steps))


def in_words(counts: Mapping[State, int], num_slots: int, rate: float, longest: Iterable[UnderWay]) -> str:
    """A line of counts, and one for each text that takes longest.

    Args:
        rate: positions a second.
    """
    num_failed = sum(counts.get(state, 0) for state in TERMINAL if state is not State.VERIFIED)
    line = f"{num_slots} under way, {counts.get(State.CANDIDATE, 0)} being judged, {rate:,.0f} positions/s"
    if num_failed:
        line = f"{num_failed} not exact, {line}"
    return "\n".join([line, *map(str, nlargest(MOST, longest, key=lambda each: each.steps))])


def _under_way(siblings: list[Slot]) -> UnderWay:
    """An attempt's siblings as one: what is kept if it ends now is the best one's prompt."""
    furthest = max(siblings, key=lambda slot: slot.rank)
    best, target = furthest.best, furthest.job.target
    accuracy, window = (best.certificate.accuracy, best.window) if best else (0.0, 0)
    num_right = 0 if math.isnan(accuracy) else round(accuracy * window)
    return UnderWay(target.id, max(slot.step for slot in siblings), num_right, len(target.token_ids))
