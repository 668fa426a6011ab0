"""How far an inversion is: what `on_step` is told.

Owns: the record, the line that shows it. Must not know: who counts.
"""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """An inversion after one optimisation step.

    Attributes:
        step: optimisation steps so far; each passes once over every text under way.
        num_texts: texts of this call.
        num_done: texts that have ended, whatever became of them.
        num_exact: texts that the verifying engine said exactly.
        num_under_way: texts in the solver's table.
        positions: tokens and vectors passed forward and backward so far.
        seconds: wall time so far.
    """

    step: int
    num_texts: int
    num_done: int
    num_exact: int
    num_under_way: int
    positions: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.num_done} of {self.num_texts} texts, {self.num_exact} exact, step {self.step}, "
            f"{self.num_under_way} under way, {self.seconds:.0f} s"
        )


def show_progress(progress: Progress) -> None:
    """One line on standard error, written over at every step: `v.invert(texts, on_step=verbatim.show_progress)`."""
    is_last = progress.num_done == progress.num_texts
    print(f"\r{progress}\033[K", end="\n" if is_last else "", file=sys.stderr, flush=True)
