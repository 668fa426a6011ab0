"""When a solver is asked for checkpoints.

Owns: the interval, from what a checkpoint costs and what a loss would. Must not know: what a checkpoint holds, where it
goes.

A solver that is lost costs half an interval of its work on average. Kept too often, checkpoints cost more than that:
with C seconds of a solver for all that its table holds, and a solver lost every M seconds, the sum is least at
sqrt(2 C M).

Source: J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974.
"""

import math
import time
from dataclasses import dataclass, field

LEAST_S = 10.0
"""Shortest interval: seconds of a solver's work that its death may cost where keeping them is cheap."""

MEAN_LIFE_S = 3600.0
"""Seconds until a solver is lost, on average. Assumption: a spot machine's."""

MOST_S = 600.0

WRITER_FRAC = 0.1
"""Share of the time for which the folder may be written to on behalf of all solvers' checkpoints together."""


@dataclass
class Checkpointing:
    """The interval of every solver.

    Example:
        >>> pace = Checkpointing()
        >>> pace.made("solver-0", seconds=0.5, num_bytes=1e8)
        >>> round(pace.interval("solver-0", num_solvers=1))
        60
        >>> pace.written(seconds=0.5, num_bytes=1e8)
        >>> round(pace.interval("solver-0", num_solvers=64))
        320
    """

    _asked: dict[str, float] = field(default_factory=dict)
    _made: dict[str, tuple[float, float]] = field(default_factory=dict)
    _written: tuple[float, float] = (0.0, 1.0)
    _started: float = field(default_factory=time.monotonic)

    def is_due(self, solver: str, num_solvers: int) -> bool:
        """Whether to ask a solver now; it counts as asked then."""
        now = time.monotonic()
        if now - self._asked.get(solver, self._started) < self.interval(solver, num_solvers):
            return False
        self._asked[solver] = now
        return True

    def interval(self, solver: str, num_solvers: int) -> float:
        """Seconds between two times that a solver is asked."""
        making_s, num_bytes = self._made.get(solver, (0.0, 0.0))
        seconds, num_written = self._written
        writing_s = num_solvers * num_bytes * seconds / num_written
        return min(MOST_S, max(LEAST_S, writing_s / WRITER_FRAC, math.sqrt(2 * making_s * MEAN_LIFE_S)))

    def made(self, solver: str, seconds: float, num_bytes: float) -> None:
        """What the checkpoints of all that a solver holds took it, those of a size that says something."""
        if num_bytes > 0:
            self._made[solver] = seconds, num_bytes

    def written(self, seconds: float, num_bytes: float) -> None:
        """What it took to write some of them into the folder; few of them say little of many."""
        if num_bytes >= self._written[1] / 2:
            self._written = seconds, num_bytes
