"""The driver: the one visible loop of a run.

Owns: who is fed, who is awaited, when rows are committed. Must not know: how texts are solved or judged.

    intake -> queue -> solvers -> queue -> verifier -> queue -> ledger
       (a window)  lease   attempts  candidates  verdicts   rows

Bounded everywhere: a window of open texts, two table-fulls of leases a solver, one call in flight an actor, and no
new leases while too many candidates wait for the verifier. Where less is left than that, each solver holds what takes
it as long as the others; one that holds more gives back.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.nodes import UNCERTAIN
from orchestrator.console.progress import Reporter
from orchestrator.corpus.intake import Accepted, Taken
from orchestrator.dispatch.pace import Pace
from orchestrator.dispatch.watch import Watch
from orchestrator.fleet.resident_solver import Advance, Shortage
from orchestrator.fleet.roster import Loss, Roster
from orchestrator.fleet.verifier_actor import JUDGE_BATCH
from orchestrator.fleet.workers import LEASE_S, Worker
from orchestrator.process import interrupts
from orchestrator.process.failures import reason
from orchestrator.results.in_flight import InFlight
from orchestrator.results.ledger import Ledger
from orchestrator.run.rows import RowContext, result_row
from orchestrator.verifiers.contract import Verdict
from orchestrator.work.item import State
from orchestrator.work.work_queue import TOO_LARGE, WorkQueue

SLICE_S = 2.0
"""Seconds a solver computes before it reports."""

PATROL_S = 5.0
"""Longest wait for an answer before the leases are looked at."""

OPEN_WINDOW = 2048
OPEN_PER_SOLVER = 256
"""Texts in the queue at once, the larger of the two; a corpus may be larger than memory, and no solver may starve."""

CANDIDATES_FRAC = 0.25
"""Share of the open texts that may wait for a verdict before solvers get no new leases."""

ANSWERS_A_TURN = 64
"""Answers taken in one turn of the loop; a turn looks at every solver, however few have answered."""

JUDGE_FILL = 32
JUDGE_WAIT_S = 5.0
"""A judging call starts with this many candidates, or when the first has waited this long."""

CHECKPOINT_INTERVAL_S = 10.0
"""Seconds of a solver's work that its death may cost."""

COMMIT_ROWS = 64
COMMIT_PAUSE_S = 1.0
COMMIT_INTERVAL_S = 5.0
"""A part is written when it has so many rows, but once a second at most, so that parts grow with the rate; or after
a while, whatever it has."""


@dataclass
class Driver:
    """Runs a queue to its end.

    Attributes:
        taken: rows still to come from the corpus.
        roster: the workers; one solver and the verifier are ready.
        token_budget: read positions of a solver's table.
        in_flight: checkpoints of attempts under way.
        num_recalled: texts that went on from an earlier call's attempt.
        on_commit: told after rows were committed.
        lease_s: seconds an actor may take over one call.
        watch: told of everything, for metrics and log.
    """

    taken: Iterator[Taken]
    queue: WorkQueue
    roster: Roster
    ledger: Ledger
    in_flight: InFlight
    context: RowContext
    reporter: Reporter
    watch: Watch
    token_budget: int
    on_commit: Callable[["Driver"], None]
    lease_s: float = LEASE_S
    num_done: int = 0
    num_tokens: float = 0.0
    num_slots: dict[str, int] = field(default_factory=dict)
    num_recalled: int = 0
    _pace: Pace = field(default_factory=Pace)
    _budgets: dict[str, int] = field(default_factory=dict)
    _last_kept: dict[str, float] = field(default_factory=dict)
    _is_drained: bool = False
    _oldest_candidate: float | None = None
    _last_commit: float = field(default_factory=time.monotonic)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.roster.on_loss = self._take_back

    @property
    def seconds(self) -> float:
        """Wall time since the loop's start."""
        return time.monotonic() - self._started

    @property
    def _is_commit_due(self) -> bool:
        waited = time.monotonic() - self._last_commit
        return waited >= COMMIT_INTERVAL_S or (waited >= COMMIT_PAUSE_S and self.queue.num_ended >= COMMIT_ROWS)

    @property
    def _window(self) -> int:
        """Texts that may be open."""
        return max(OPEN_WINDOW, OPEN_PER_SOLVER * len(self.roster.solvers))

    def run(self) -> None:
        """The loop: feed, wait for an answer, route what came, commit what ended."""
        self._fill_queue()
        if self.num_recalled:
            self.reporter.say(f"{self.num_recalled} attempts go on from where they were")
        while not (self._is_drained and self.queue.is_done):
            self._fill_queue()
            self.roster.look_around()
            self._feed_solvers()
            self._feed_verifier()
            self._route_answers()
            self._stop_overdue()
            if self._is_commit_due:
                self.commit()
            self.reporter.update(self.num_done, self._detail())
            self.watch.gauges(self.queue, self.num_slots)
        self.commit()
        self.watch.gauges(self.queue, self.num_slots, is_last=True)

    @interrupts.held()
    def commit(self) -> None:
        """Commit the rows that ended."""
        rows = [result_row(item, self.context) for item in self.queue.drain()]
        started = time.monotonic()
        self.ledger.commit(rows)
        self.in_flight.forget(row["row"] for row in rows)
        self.num_done += len(rows)
        self._last_commit = time.monotonic()
        if rows:
            self.watch.committed(rows, self._last_commit - started)
            self.on_commit(self)

    def _fill_queue(self) -> None:
        while not self._is_drained and self.queue.num_open < self._window:
            item = next(self.taken, None)
            if item is None:
                self._is_drained = True
            elif isinstance(item, Accepted):
                self._add(item)
            else:
                self.queue.add_invalid(item.row, item.id, item.text, item.why)
                self.watch.refused(item.id, item.why.reason)  # the detail quotes the text

    def _add(self, item: Accepted) -> None:
        """Queue a text, where an earlier call left it or from its beginning."""
        left = self.in_flight.recall(item.row, item.job.target)
        self.queue.add(item.row, *(left or (item.job, None)))
        self.num_recalled += left is not None

    def _feed_solvers(self) -> None:
        for solver in self.roster.solvers:
            if solver.in_flight is None:
                if solver.is_ready:
                    self._feed_solver(solver)
                else:
                    solver.ask(solver.actor.advance.remote([], 0.0, keeps=True))  # its goodbye

    def _feed_solver(self, solver: Worker) -> None:
        held = self.queue.leased_positions(solver.name)
        room = min(2 * self._budgets.get(solver.name, self.token_budget), self._fair_share(solver)) - held
        if self.queue.num_candidates >= CANDIDATES_FRAC * self._window:
            room = 0
        jobs = self.queue.lease(solver.name, math.ceil(room))
        self.watch.leased(solver.name, jobs)
        if not (jobs or held):
            return
        is_due = time.monotonic() - self._last_kept.get(solver.name, self._started) >= CHECKPOINT_INTERVAL_S
        if is_due:
            self._last_kept[solver.name] = time.monotonic()
        surplus = [] if jobs or not self._is_somebody_idle() else self.queue.spare(solver.name, -room)
        checkpoints = self.queue.checkpoints(jobs)
        solver.ask(solver.actor.advance.remote(jobs, SLICE_S, checkpoints, keeps=is_due, give_back=surplus))

    def _is_somebody_idle(self) -> bool:
        return self._is_drained and any(not self.queue.leased_positions(solver.name) for solver in self.roster.ready)

    def _fair_share(self, solver: Worker) -> float:
        """Positions that take this solver as long as the rest takes the others."""
        ready = [other.name for other in self.roster.ready]
        if not self._is_drained or len(ready) == 1:
            return math.inf
        return self._pace.share(solver.name, ready) * self.queue.num_unsolved_positions

    def _feed_verifier(self) -> None:
        verifier = self.roster.verifier
        if verifier.in_flight is not None:
            return
        if not verifier.is_ready:
            self.roster.move(verifier)
            return
        if self.queue.num_waiting_candidates == 0:
            self._oldest_candidate = None
            return
        now = time.monotonic()
        self._oldest_candidate = self._oldest_candidate or now
        nothing_else = not any(solver.is_busy for solver in self.roster.solvers)
        is_due = nothing_else or now - self._oldest_candidate >= JUDGE_WAIT_S
        if is_due or self.queue.num_waiting_candidates >= JUDGE_FILL:
            candidates = self.queue.take_candidates(JUDGE_BATCH)
            verifier.load = [candidate.id for candidate in candidates]
            verifier.ask(verifier.actor.judge.remote(candidates))
            self.watch.judging(candidates)
            self._oldest_candidate = None

    def _route_answers(self) -> None:
        calls = self.roster.calls
        if not calls:
            return
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=PATROL_S)
        if not ready:
            return
        ready, _ = ray.wait(list(calls), num_returns=min(len(calls), ANSWERS_A_TURN), timeout=0)
        for ref in ready:
            self._route(calls[ref])

    def _route(self, worker: Worker) -> None:
        if not worker.has_started:
            self.roster.take_in(worker)
            return
        ref, worker.in_flight = worker.in_flight, None
        try:
            answer = ray.get(ref)
        except UNCERTAIN:
            worker.ask_again()
        except RayError as error:
            self.roster.replace(worker, error)
        else:
            self._take(worker, answer)

    def _take(self, worker: Worker, answer: Any) -> None:
        if worker.is_in_doubt:
            self.roster.replace(worker, TimeoutError("its answer was lost on the way"))
        elif worker is self.roster.verifier:
            self._take_verdicts(answer)
        else:
            self._take_attempts(worker, answer)
            if worker.has_said_goodbye:
                self.queue.lose(worker.name, is_suspicious=False)
                self._forget(worker)
                self.roster.move(worker)

    def _take_attempts(self, solver: Worker, advance: Advance) -> None:
        self.num_tokens += advance.num_tokens
        self.num_slots[solver.name] = advance.num_slots
        self._pace.measure(solver.name, advance.num_tokens, advance.seconds)
        self.watch.advanced(solver.name, advance)
        self._budgets[solver.name] = advance.token_budget
        for attempt in advance.attempts:
            solver.num_deaths = 0
            self.watch.attempted(solver.name, attempt, self.queue.finish(solver.name, attempt))
        self.in_flight.keep(self.queue.remember(solver.name, advance.checkpoints))
        self.queue.give_back(solver.name, dict.fromkeys(advance.given_back))
        if advance.shortage is not None:
            self._take_shortage(solver, advance.shortage)

    def _take_shortage(self, solver: Worker, shortage: Shortage) -> None:
        """A solver ran out of memory: less at once for a while; a text that was alone ends."""
        if shortage.too_large is not None:
            self.queue.give_up(solver.name, shortage.too_large, TOO_LARGE)
        self.queue.lose(solver.name, is_suspicious=False)
        self.reporter.say(
            f"{solver.name} ran out of memory; its table has {self._budgets[solver.name]} positions for a while"
        )

    def _take_verdicts(self, verdicts: list[Verdict]) -> None:
        verifier = self.roster.verifier
        verifier.num_deaths, verifier.load = 0, []
        states = [self.queue.judge(verdict) for verdict in verdicts]
        self.watch.judged(verifier.name, verdicts, states)

    def _stop_overdue(self) -> None:
        """An actor that hangs past its lease is as good as dead."""
        for worker in self.roster.calls.values():
            if worker.is_overdue(self.lease_s):
                self.roster.replace(worker, TimeoutError(f"no answer within its lease of {self.lease_s:g} s"))

    def _take_back(self, loss: Loss) -> None:
        """What a lost worker held is to be done again, by itself under another name or by others."""
        worker, cause = loss.worker, loss.cause
        if worker is self.roster.verifier:
            self.queue.return_candidates(worker.load)
            states = dict.fromkeys(worker.load, State.CANDIDATE)
            worker.load = []
        else:
            states = self.queue.lose(worker.name, is_suspicious=loss.is_own_fault)
            self._forget(worker)
        self.watch.lost(worker.name, states, reason(cause))
        if not loss.is_last:
            self.watch.replaced(worker.name, worker.num_replacements + 1)

    def _forget(self, solver: Worker) -> None:
        """What was known of a solver that starts anew, perhaps elsewhere."""
        self.num_slots[solver.name] = 0
        self._pace.forget(solver.name)
        self._budgets.pop(solver.name, None)

    def _detail(self) -> str:
        counts = self.queue.counts
        return (
            f"{counts[State.VERIFIED]} verified, {counts[State.CANDIDATE]} to judge, "
            f"{sum(self.num_slots.values())} slots, {self.num_tokens / max(self.seconds, 1e-9):,.0f} tokens/s"
        )
