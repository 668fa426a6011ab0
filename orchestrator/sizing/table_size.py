"""How many positions a solver's table has, from step to step.

Owns: halving after a shortage, growing again, the size that measured memory allows, which passes are too large to keep
all that backward needs. Must not know: the solver, torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

QUIET_STEPS = 50
"""Steps without a shortage after which a table grows back; twice as many after each further shortage. Assumption."""

MEASURED_FRAC = 0.9
"""Share of the memory there is that a measured table may come to take: passes differ. Assumption."""

TELLING_POSITIONS = 512
"""A pass of fewer positions says little of what one takes: a chunk of logits weighs more. Assumption."""


@dataclass(frozen=True)
class SolverRoom:
    """What a solver is told of its room.

    Attributes:
        table_positions: read positions of its table at the start.
        most_positions: that a table found by measuring may have.
        served_length: positions that the verifier reads at most; None is the model's context.
        num_bytes: what it may take of its card; 0 is as much as it gets.
        is_budget_fixed: whether the table stays as it is asked for.
        kept_positions: of the largest pass that holds all that backward needs; 0 is no bound.
    """

    table_positions: int
    most_positions: int = 0
    served_length: int | None = None
    num_bytes: int = 0
    is_budget_fixed: bool = False
    kept_positions: int = 0


@dataclass
class TableSize:
    """The size of one table.

    Attributes:
        positions: of the table at present.
        aim: what it grows back to.
        kept: positions of the largest pass that holds all that backward needs; a larger one computes it again.
        is_fixed: whether measuring decides `kept` alone, since the size was asked for.
    """

    positions: int
    aim: int
    kept: float = math.inf
    is_fixed: bool = False
    _quiet: int = 0
    _num_shortages: int = 0
    _measured: int = 0

    @classmethod
    def of(cls, room: SolverRoom) -> "TableSize":
        """As it is at the start."""
        return cls(room.table_positions, room.table_positions, room.kept_positions or math.inf, room.is_budget_fixed)

    def halve(self, slots: Sequence[tuple[str, int]]) -> bool:
        """After a shortage, if a smaller table can help: not one text alone, its siblings passed one by one.

        Args:
            slots: key and positions of each slot in the table.
        Returns:
            Whether it was halved.
        """
        largest = max(positions for _, positions in slots)
        has_smaller_parts = len(slots) > 1 and self.positions > largest
        if len({key for key, _ in slots}) == 1 and not has_smaller_parts:
            return False
        self.positions = max(1, min(self.positions, sum(positions for _, positions in slots)) // 2)
        self._quiet = 0
        self._num_shortages += 1
        return True

    def keep_less(self, positions: int) -> bool:
        """After a shortage with one text of so many positions alone: whether its pass can keep less than it did."""
        was_kept = positions <= self.kept
        self.kept = min(self.kept, positions - 1)
        return was_kept

    def step(self) -> None:
        """A step went well."""
        self._quiet += 1
        if self.positions < self.aim and self._quiet >= QUIET_STEPS * 2 ** (self._num_shortages - 1):
            self.positions = min(self.aim, 2 * self.positions)
            self._quiet = 0

    def measure(self, positions: int, taken_bytes: int, num_bytes: int, most_positions: int) -> None:
        """A pass of so many positions, padding included, took `taken_bytes` of the `num_bytes` beside the weights.

        Larger passes say more: each that is half as large again sets what is kept anew, and unless they are fixed the
        aim, and the table too where it is not small because of a shortage. A pass that computes again what backward
        needs says nothing of one that keeps it.
        """
        if positions > self.kept or positions < max(TELLING_POSITIONS, 1.5 * self._measured):
            return
        self._measured = positions
        is_short = self.positions < self.aim
        allowed = int(MEASURED_FRAC * num_bytes * positions / max(1, taken_bytes))
        self.kept = max(1, allowed)
        if self.is_fixed:
            return
        self.aim = min(self.kept, most_positions)
        self.positions = min(self.positions, self.aim) if is_short else self.aim
