"""A run's sink: what ended becomes rows, committed as parts of the results.

Owns: when a part is written. Must not know: where texts come from, solvers.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from orchestrator.console.progress import Reporter
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.fleet.resident_solver import Advance
from orchestrator.fleet.under_way import in_words
from orchestrator.process import interrupts
from orchestrator.results.history import History
from orchestrator.results.in_flight import InFlight
from orchestrator.results.ledger import Ledger
from orchestrator.run.rows import RowContext, result_row

COMMIT_ROWS = 64
COMMIT_PAUSE_S = 1.0
COMMIT_INTERVAL_S = 5.0
"""A part is written when it has so many rows, but once a second at most, so that parts grow with the rate; or after
a while, whatever it has."""


@dataclass
class LedgerSink:
    """Commits rows, keeps checkpoints beside them, shows how far the run is.

    Attributes:
        in_flight: checkpoints of attempts under way.
        context: what all rows have in common.
        on_commit: told after rows were committed.
        num_done: rows of the folder.
    """

    ledger: Ledger
    in_flight: InFlight
    context: RowContext
    reporter: Reporter
    on_commit: Callable[[Dispatcher], None]
    num_done: int = 0
    _last_commit: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._history = History(self.ledger.folder)

    def advanced(self, advance: Advance) -> None:
        """Remember the way of attempts that ended; rows are made of texts that ended."""
        self._history.add(advance.trajectories)

    def keep(self, checkpoints: Mapping[int, bytes]) -> None:
        """Put checkpoints into the folder."""
        self.in_flight.keep(checkpoints)

    def lost(self, ids: Collection[str]) -> None:
        """Nothing: what the folder holds is still what they go on from."""

    def turned(self, dispatcher: Dispatcher) -> None:
        """Commit if that is due; show how far it is."""
        if self._is_commit_due(dispatcher.queue.num_ended):
            self.commit(dispatcher)
        self.reporter.update(self.num_done + dispatcher.queue.num_ended, _detail(dispatcher))

    @interrupts.held()
    def commit(self, dispatcher: Dispatcher) -> None:
        """Commit the rows that ended."""
        rows = [result_row(item, self.context) for item in dispatcher.queue.drain()]
        started = time.monotonic()
        self.ledger.commit(rows)
        self._history.commit(rows)
        self.in_flight.forget(row["row"] for row in rows)
        self.num_done += len(rows)
        self._last_commit = time.monotonic()
        if rows:
            dispatcher.watch.kept(Counter(row["status"] for row in rows), self._last_commit - started)
            self.on_commit(dispatcher)

    def _is_commit_due(self, num_ended: int) -> bool:
        waited = time.monotonic() - self._last_commit
        return waited >= COMMIT_INTERVAL_S or (waited >= COMMIT_PAUSE_S and num_ended >= COMMIT_ROWS)


def _detail(dispatcher: Dispatcher) -> str:
    """What is under way; texts that ended are in the count."""
    longest = [each for solver in dispatcher.roster.solvers for each in solver.longest]
    rate = dispatcher.num_positions / max(dispatcher.seconds, 1e-9)
    return in_words(dispatcher.queue.counts, sum(dispatcher.num_slots.values()), rate, longest)
