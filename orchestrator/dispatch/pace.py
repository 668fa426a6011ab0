"""How fast each solver is, and hence how much of the work that is left should be with it.

Owns: measured rates, shares. Must not know: the queue, actors.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

KEEP = 0.7
"""Weight of what was measured before against the last slice of time. Assumption."""


@dataclass
class Pace:
    """Positions a second of every solver that has computed yet.

    Example:
        >>> pace = Pace()
        >>> pace.measure("fast", positions=900, seconds=1)
        >>> pace.measure("slow", positions=100, seconds=1)
        >>> pace.share("slow", among=["fast", "slow"])
        0.1
    """

    _rates: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str, positions: float, seconds: float) -> None:
        """A solver computed for a while."""
        if positions > 0 and seconds > 0:
            rate = positions / seconds
            self._rates[name] = KEEP * self._rates.get(name, rate) + (1 - KEEP) * rate

    def forget(self, name: str) -> None:
        """A solver is gone; its successor may sit elsewhere."""
        self._rates.pop(name, None)

    def share(self, name: str, among: Collection[str]) -> float:
        """The part of some work that takes this solver as long as the others theirs; who is not measured is average."""
        known = [rate for other in among if (rate := self._rates.get(other))]
        average = sum(known) / len(known) if known else 1.0
        return self._rates.get(name, average) / sum(self._rates.get(other, average) for other in among)
