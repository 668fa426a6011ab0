"""Several ways of solving the same texts, side by side, until one is known to be the best.

Owns: what each way has cost, which are dropped and when, which wins. Must not know: how the ways differ, files, Ray.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from engine.slots import Attempt, Job, Slot
from engine.solver import Solver

TOLERANCE = 1.3
"""Cost over the cheapest at which a way that comes earlier is preferred. Assumption."""

FIRST_LOOK = 8
"""Steps after which ways are compared for the first time; then at every doubling. Assumption."""

HOPELESS_FRAC = 0.7
"""Share of the leader's right tokens below which a way is dropped at a look. The pocket model's plan is the same
from 0.5 to 0.75, measured 2026-11-26."""


LEAST_GAIN = 0.05
"""Logits by which a way's smallest margins must have risen, on average, since the look before. Assumption."""


@dataclass(eq=False)
class Arm:
    """One way: its attempts at every text, and how far they are.

    Attributes:
        value: what it stands for.
        num_texts: texts it is to solve.
        ended: attempts that came to their end.
        spent: positions passed so far.
        right_frac: share of the texts' tokens that were right in each one's best measurement.
        margin: smallest margin in each one's best measurement, on average, logits.
        before: `margin` at the look before.
        has_begun: every text has been measured.
        is_out: dropped.
    """

    value: int
    num_texts: int
    ended: list[Attempt] = field(default_factory=list)
    spent: float = 0.0
    right_frac: float = 0.0
    margin: float = -math.inf
    before: float = -math.inf
    has_begun: bool = False
    is_out: bool = False

    @property
    def owner(self) -> str:
        """Its name in the solver's table."""
        return f"way {self.value}"

    @property
    def num_solved(self) -> int:
        return sum(attempt.has_margin for attempt in self.ended)

    @property
    def is_solved(self) -> bool:
        return self.num_solved == self.num_texts

    @property
    def is_running(self) -> bool:
        return not self.is_out and len(self.ended) < self.num_texts

    def measure(self, slots: list[Slot]) -> None:
        """Take down how far it is, from what has ended and what is in the table."""
        bests = [(a.certificate, len(a.job.target.token_ids)) for a in self.ended]
        bests += [(slot.best.certificate, slot.best.window) for slot in slots if slot.best]
        known = [(certificate, window) for certificate, window in bests if certificate]
        self.spent = sum(a.positions for a in self.ended) + sum(slot.positions for slot in slots)
        self.has_begun = len(known) == self.num_texts
        if self.has_begun:
            num_tokens = sum(certificate.num_tokens for certificate, _ in known)
            self.right_frac = sum(certificate.accuracy * window for certificate, window in known) / num_tokens
            self.margin = sum(certificate.min_margin for certificate, _ in known) / self.num_texts


class Race:
    """Steps all ways together and drops those that cannot win.

    A way's cost is its positions until every text has its margin. The winner is the first, in the order given, within
    `tolerance` of the cheapest. A way is dropped as soon as it cannot be that, whatever it still does; and at looks,
    after 8, 16, 32, ... steps, where it has less than `HOPELESS_FRAC` of the leader's tokens right or has gained less
    than `LEAST_GAIN` since the look before.

    Args:
        solver: with nothing in its table.
        ways: jobs by what they stand for, those preferred first; the same texts each.
        tolerance: cost over the cheapest at which a way that comes earlier is preferred.
    """

    def __init__(self, solver: Solver, ways: dict[int, list[Job]], *, tolerance: float = TOLERANCE):
        self._solver, self._tolerance = solver, tolerance
        self.arms = [Arm(value, len(jobs)) for value, jobs in ways.items()]
        self._steps = 0
        self._next_look = FIRST_LOOK
        for arm in self.arms:
            for job in ways[arm.value]:
                solver.submit(replace(job, owner=arm.owner))

    @property
    def is_over(self) -> bool:
        return not any(arm.is_running for arm in self.arms)

    @property
    def winner(self) -> Arm:
        """The first within `tolerance` of the cheapest; where none solved all, the one that is furthest, the later on
        a tie."""
        solved = [arm for arm in self.arms if arm.is_solved]
        if not solved:
            return max(reversed(self.arms), key=lambda arm: (arm.num_solved, arm.right_frac))
        least = min(arm.spent for arm in solved)
        return next(arm for arm in solved if arm.spent <= self._tolerance * least)

    def step(self) -> None:
        """One pass over every way that is still in."""
        ended = self._solver.step()
        self._steps += 1
        for arm in filter(lambda arm: arm.is_running, self.arms):
            arm.ended += [attempt for attempt in ended if attempt.job.owner == arm.owner]
            arm.measure([slot for slot in self._solver.active if slot.job.owner == arm.owner])
        self._drop(arm for arm in self.arms if self._is_beaten(arm))
        if self._steps == self._next_look:
            self._next_look *= 2
            self._look()

    def run(self, ends: float) -> Iterator[None]:
        """Step by step until it is over, or until `time.monotonic()` is `ends`; the table is left empty."""
        while not self.is_over and time.monotonic() < ends:
            self.step()
            yield
        self.stop()

    def stop(self) -> None:
        """Leave the table empty."""
        self._solver.withdraw(self._solver.keys)

    def _is_beaten(self, arm: Arm) -> bool:
        """Whether one that solved all would be taken whatever this one still does."""
        place = self.arms.index(arm)
        return any(
            arm.spent > self._tolerance * other.spent or (n < place and other.spent <= self._tolerance * arm.spent)
            for n, other in enumerate(self.arms)
            if other.is_solved and other is not arm
        )

    def _look(self) -> None:
        begun = [arm for arm in self.arms if arm.has_begun]
        least = HOPELESS_FRAC * max((arm.right_frac for arm in begun), default=0.0)
        self._drop(arm for arm in begun if arm.right_frac < least or arm.margin < arm.before + LEAST_GAIN)
        for arm in begun:
            arm.before = arm.margin

    def _drop(self, arms: Iterable[Arm]) -> None:
        for arm in [arm for arm in arms if arm.is_running]:
            arm.is_out = True
            self._solver.withdraw({key for key in self._solver.keys if key.startswith(f"{arm.owner}/")})
