"""A run's sink: what ended becomes rows, committed as parts of the results.

Owns: when a part is due, what is done once it is committed. Must not know: where texts come from, solvers, how parts
are written.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from engine.elsewhere import Elsewhere
from orchestrator.console.errors import StorageError, Superseded
from orchestrator.console.progress import Reporter
from orchestrator.dispatch.dispatcher import REFUSED_PAUSE_S, Dispatcher
from orchestrator.fleet.answers import Advance
from orchestrator.fleet.under_way import in_words
from orchestrator.process import interrupts
from orchestrator.results.compaction import PART_BYTES
from orchestrator.results.history import History
from orchestrator.results.ledger import Ledger
from orchestrator.run.keeping import Keeping
from orchestrator.run.rows import RowContext, result_row
from orchestrator.run.writing import Part, Writing
from orchestrator.work.item import Item, Kept

COMMIT_ROWS = 64
COMMIT_PAUSE_S = 1.0
COMMIT_INTERVAL_S = 5.0
"""A part is written when it has so many rows, but once a second at most, so that parts grow with the rate; or after
a while, whatever it has."""

LAST_S = 20.0
"""For which an interrupted run waits for its last parts: container platforms kill half a minute after they ask."""

MOST_UNWRITTEN = 4 * PART_BYTES
"""Of prompts that wait for the folder; with more, solvers get nothing new."""


@dataclass
class LedgerSink:
    """Commits rows, keeps checkpoints beside them, shows how far the run is.

    Attributes:
        keeping: of checkpoints of attempts under way.
        context: what all rows have in common.
        on_commit: told after rows were committed.
        num_done: rows of the folder.
        on_refusal: told of parts that a store refuses and is asked to take again.
        counts: rows by status that this call has committed.
    """

    ledger: Ledger
    keeping: Keeping
    context: RowContext
    reporter: Reporter
    on_commit: Callable[[Dispatcher], None]
    num_done: int = 0
    on_refusal: Callable[[Exception], None] = lambda _: None
    counts: Counter[str] = field(default_factory=Counter)
    _gathered: list[Item] = field(default_factory=list)
    _gathered_bytes: int = 0
    _last_part: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._history = History(self.ledger.folder)
        self._writing = Writing(self.ledger, self.on_refusal)

    @property
    def awaited(self) -> Collection[Any]:
        """What is being written."""
        return [*self._writing.awaited, *self.keeping.awaited]

    @property
    def is_behind(self) -> bool:
        """Whether more is solved than the folder takes."""
        return self._writing.num_bytes + self._gathered_bytes >= MOST_UNWRITTEN

    def advanced(self, advance: Advance) -> None:
        """Remember the way of attempts that ended; rows are made of texts that ended."""
        self._history.add(advance.trajectories)

    def keep(self, checkpoints: Mapping[int, Kept]) -> None:
        """Have checkpoints put into the folder."""
        self.keeping.keep(checkpoints)

    def lost(self, ids: Collection[str]) -> None:
        """Nothing: what the folder holds is still what they go on from."""

    def turned(self, dispatcher: Dispatcher) -> None:
        """Commit what is written, have a part written if one is due; show how far it is."""
        self.keeping.turn()
        self._commit(dispatcher)
        self._gather(dispatcher, is_last=False)
        num_ended = self.num_done + self._writing.num_rows + len(self._gathered)
        self.reporter.update(num_ended, _detail(dispatcher))

    def settle(self, dispatcher: Dispatcher, *, is_patient: bool = True) -> None:
        """Have everything that ended written, and wait until it is committed.

        Args:
            is_patient: whether a store that refuses is asked again, and waited for longer than `LAST_S`.
        Raises:
            StorageError: it was not patient, and some are not committed.
        """
        ends = math.inf if is_patient else time.monotonic() + LAST_S
        try:
            self._settle_parts(dispatcher, ends, is_patient=is_patient)
        finally:
            if not is_patient:
                self.keeping.settle(ends - time.monotonic())

    def _settle_parts(self, dispatcher: Dispatcher, ends: float, *, is_patient: bool) -> None:
        self._gather(dispatcher, is_last=True)
        while self._writing.is_busy:
            if time.monotonic() > ends:
                raise StorageError(f"parts of the results were not written within {LAST_S:.0f} s")
            if awaited := self._writing.awaited:
                ray.wait(awaited, num_returns=1, timeout=1.0)
            else:
                time.sleep(REFUSED_PAUSE_S)
            self._commit(dispatcher, is_patient=is_patient)

    @interrupts.held()
    def _gather(self, dispatcher: Dispatcher, *, is_last: bool) -> None:
        """Take what ended; have it written if it is time to."""
        ended = dispatcher.queue.drain()
        self._gathered += ended
        self._gathered_bytes += sum(_num_bytes(item) for item in ended)
        if not (is_last or self._is_part_due()):
            return
        items, num_bytes = self._gathered, self._gathered_bytes
        self._gathered, self._gathered_bytes, self._last_part = [], 0, time.monotonic()
        if items:
            self._writing.add(items, [result_row(item, self.context) for item in items], num_bytes)

    @interrupts.held()
    def _commit(self, dispatcher: Dispatcher, *, is_patient: bool = True) -> None:
        """Lines of what is written; what is lost goes back into the queue."""
        if not self._writing.is_busy:
            return
        started = time.monotonic()
        self._writing.commit(lambda part: self._account(part, dispatcher, started), is_patient=is_patient)
        if lost := self._writing.lost:
            self._writing.lost = []
            dispatcher.queue.redo(lost)
            dispatcher.watch.lost_prompts([item.id for item in lost])

    def _account(self, part: Part, dispatcher: Dispatcher, started: float) -> None:
        """A part's rows are results now."""
        self._history.commit(part.rows)
        self.keeping.forget(row["row"] for row in part.rows)
        counts = Counter(row["status"] for row in part.rows)
        self.num_done += len(part.rows)
        self.counts += counts
        dispatcher.watch.kept(counts, time.monotonic() - started)
        try:
            self.on_commit(dispatcher)
        except Superseded:
            raise
        except StorageError as refusal:  # what it writes is written anew with the next part
            self.on_refusal(refusal)

    def _is_part_due(self) -> bool:
        waited = time.monotonic() - self._last_part
        if waited >= COMMIT_INTERVAL_S or self._gathered_bytes >= PART_BYTES:
            return True
        return waited >= COMMIT_PAUSE_S and len(self._gathered) >= COMMIT_ROWS


def _num_bytes(item: Item) -> int:
    """Of an item's prompt that waits in Ray's store."""
    prompt = item.attempt.prompt_KD if item.attempt else None
    return prompt.num_bytes if isinstance(prompt, Elsewhere) else 0


def _detail(dispatcher: Dispatcher) -> str:
    """What is under way; texts that ended are in the count."""
    longest = [each for solver in dispatcher.roster.solvers for each in solver.longest]
    rate = dispatcher.num_positions / max(dispatcher.seconds, 1e-9)
    return in_words(dispatcher.queue.counts, sum(dispatcher.num_slots.values()), rate, longest)
