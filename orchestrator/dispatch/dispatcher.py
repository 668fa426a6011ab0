"""The dispatcher: the one visible loop over solvers and verifiers, for a run and for a search.

Owns: who is fed, who is awaited, what is taken back from whom. Must not know: where jobs come from, where outcomes go,
how texts are solved or judged.

    source -> queue -> solvers -> queue -> verifiers -> queue -> sink
       (a window)  lease   attempts  candidates  verdicts   what ended

Bounded everywhere: a window of open texts, two table-fulls of leases a solver, one call in flight an actor, and no
new leases while too many candidates wait for a verdict. Where less is left than that, each solver holds what takes
it as long as the others; one that holds more gives back.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.nodes import UNCERTAIN
from orchestrator.dispatch.checkpointing import Checkpointing
from orchestrator.dispatch.judging import Judging
from orchestrator.dispatch.pace import Pace
from orchestrator.dispatch.protocol import Sink, Source
from orchestrator.dispatch.seats import Seats
from orchestrator.dispatch.watch import Watch
from orchestrator.fleet.answers import Advance, Shortage
from orchestrator.fleet.blocks import placed, states_placed
from orchestrator.fleet.roster import Loss, Roster
from orchestrator.fleet.worker import LEASE_S, Worker
from orchestrator.process.failures import reason
from orchestrator.verifiers.contract import GREEDY, Mode
from orchestrator.work.item import State
from orchestrator.work.work_queue import TOO_LARGE, WorkQueue

OPEN_WINDOW = 2048
OPEN_PER_SOLVER = 256
"""Texts in the queue at once, the larger of the two; a corpus may be larger than memory, and no solver may starve."""

CANDIDATES_FRAC = 0.25
"""Share of the open texts that may wait for a verdict before solvers get no new leases."""

ANSWERS_A_TURN = 64
"""Answers taken in one turn of the loop; a turn looks at every solver, however few have answered."""

REFUSED_PAUSE_S = 0.1
"""Between two turns of the loop where everything waits for a store that refuses."""


@dataclass(frozen=True)
class Tempo:
    """How often the loop looks at what. As it stands, for texts that nobody waits for.

    Attributes:
        slice_s: seconds a solver computes before it reports.
        judge_fill: a judging call starts with this many candidates,
        judge_wait_s: or when the first has waited this long, or when nobody is at work.
        patrol_s: longest wait for an answer before the leases, and the source, are looked at.
        seat_wait_s: a worker without a node waits this long before it is given the seat of one that is idle.
        said_every_s: between two times that it is said who is waited for.
    """

    slice_s: float = 2.0
    judge_fill: int = 32
    judge_wait_s: float = 5.0
    patrol_s: float = 5.0
    seat_wait_s: float = 10.0
    said_every_s: float = 30.0


@dataclass
class Dispatcher:
    """Runs a queue until its source is over and every text has ended.

    Attributes:
        roster: the workers; one solver and one verifier are ready.
        watch: told of everything, for metrics and log.
        say: tells a person.
        table_positions: read positions of a solver's table.
        lease_s: seconds an actor may take over one call.
        num_positions: positions passed forward and backward.
        num_slots: busy, by solver.
        checkpointing: when solvers are asked for checkpoints; the sink says what writing them takes.
    """

    source: Source
    sink: Sink
    queue: WorkQueue
    roster: Roster
    watch: Watch
    say: Callable[[str], None]
    table_positions: int
    tempo: Tempo = Tempo()
    judged_as: Mode = GREEDY
    lease_s: float = LEASE_S
    num_positions: float = 0.0
    num_slots: dict[str, int] = field(default_factory=dict)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    _pace: Pace = field(default_factory=Pace)
    _budgets: dict[str, int] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.roster.on_loss = self._take_back
        tempo = self.tempo
        self._judging = Judging(
            self.queue, self.roster, self.watch, tempo.judge_fill, tempo.judge_wait_s, self.judged_as
        )
        self._seats = Seats(
            self.queue, self.roster, self.say, lambda: self._is_held_back, tempo.seat_wait_s, tempo.said_every_s
        )

    @property
    def seconds(self) -> float:
        """Wall time since the loop's start."""
        return time.monotonic() - self._started

    @property
    def all_positions(self) -> int:
        """Read positions of all tables together, of the solvers that take work."""
        return sum(self._table(solver) for solver in self.roster.ready)

    @property
    def _window(self) -> int:
        """Texts that may be open."""
        return max(OPEN_WINDOW, OPEN_PER_SOLVER * len(self.roster.solvers))

    @property
    def _is_held_back(self) -> bool:
        """Whether so many candidates wait, or so many rows for the folder, that solvers get nothing new."""
        return self.sink.is_behind or self.queue.num_candidates >= CANDIDATES_FRAC * self._window

    def run(self) -> None:
        """The loop: fill the queue, feed, wait for an answer, route what came, let the sink take what ended."""
        self.source.fill(self.queue, self._window)
        while not self._is_settled():
            self._turn()
        self.sink.turned(self)
        self.watch.gauges(self.queue, self.num_slots, is_last=True)

    @property
    def _is_over(self) -> bool:
        return self.source.is_over and self.queue.is_done

    def _is_settled(self) -> bool:
        """Whether every text has ended and is kept; whose prompt is lost goes round again."""
        if self._is_over:
            self.sink.settle(self)
        return self._is_over

    def _turn(self) -> None:
        self.source.fill(self.queue, self._window)
        self.roster.look_around()
        self._feed_solvers()
        self._judging.feed()
        self._seats.look()
        self._route_answers()
        self._stop_overdue()
        self.sink.turned(self)
        self.watch.gauges(self.queue, self.num_slots)

    def _feed_solvers(self) -> None:
        for solver in self.roster.solvers:
            if solver.has_started and solver.in_flight is None:
                if solver.is_ready:
                    self._feed_solver(solver)
                else:
                    solver.ask(*solver.actor.advance.remote([], 0.0, keeps=True))  # its goodbye

    def _feed_solver(self, solver: Worker) -> None:
        held = self.queue.leased_positions(solver.name)
        room = min(2 * self._table(solver), self._fair_share(solver)) - held
        if self._is_held_back:
            room = 0
        jobs = self.queue.lease(solver.name, math.ceil(room))
        self.watch.leased(solver.name, jobs)
        if not (jobs or held):
            return
        is_due = self.checkpointing.is_due(solver.name, len(self.roster.ready))
        surplus = [] if jobs or not self._is_somebody_idle() else self.queue.spare(solver.name, -room)
        let_go = list({**dict.fromkeys(surplus), **dict.fromkeys(self.source.unwanted(self.queue.held(solver.name)))})
        checkpoints = self.queue.checkpoints(jobs)
        solver.ask(*solver.actor.advance.remote(jobs, self.tempo.slice_s, checkpoints, keeps=is_due, give_back=let_go))

    def _table(self, solver: Worker) -> int:
        """Read positions of a solver's table."""
        return self._budgets.get(solver.name, self.table_positions)

    def _is_somebody_idle(self) -> bool:
        idle = (solver for solver in self.roster.ready if not self.queue.leased_positions(solver.name))
        return not self.source.holds_back and any(idle)

    def _fair_share(self, solver: Worker) -> float:
        """Positions that take this solver as long as the rest takes the others."""
        ready = [other.name for other in self.roster.ready]
        if self.source.holds_back or len(ready) == 1:
            return math.inf
        return self._pace.share(solver.name, ready) * self.queue.num_unsolved_positions

    def _route_answers(self) -> None:
        calls, writes = self.roster.calls, self.sink.awaited
        if not (calls or writes):
            if self.sink.is_behind:
                time.sleep(REFUSED_PAUSE_S)
            else:
                self.source.wait(self.tempo.patrol_s)
            return
        ray.wait([*calls, *writes], num_returns=1, timeout=self.tempo.patrol_s)
        ready, _ = ray.wait(list(calls), num_returns=min(len(calls), ANSWERS_A_TURN), timeout=0) if calls else ([], [])
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
        elif worker in self.roster.verifiers:
            self._judging.take(worker, answer)
        else:
            self._take_attempts(worker, answer)
            if worker.has_said_goodbye:
                self.queue.lose(worker.name, is_suspicious=False)
                self._forget(worker)
                self.roster.move(worker)

    def _take_attempts(self, solver: Worker, advance: Advance) -> None:
        self.num_positions += advance.num_positions
        self.num_slots[solver.name] = advance.num_slots
        solver.longest = advance.longest
        self._pace.measure(solver.name, advance.num_positions, advance.seconds)
        self.watch.advanced(solver.name, advance)
        self._budgets[solver.name] = advance.table_positions
        (prompts, states), solver.blocks = solver.blocks, ()
        for attempt in placed(advance.attempts, prompts):
            solver.num_deaths = 0
            self.watch.attempted(solver.name, attempt, self.queue.finish(solver.name, attempt))
        self._keep(solver, advance, states)
        self.queue.give_back(solver.name, dict.fromkeys(advance.given_back))
        self.sink.advanced(advance)
        if advance.shortage is not None:
            self._take_shortage(solver, advance.shortage)

    def _keep(self, solver: Worker, advance: Advance, states: Any) -> None:
        """Checkpoints into the queue, and where they outlive this process."""
        checkpoints = self.queue.remember(solver.name, states_placed(advance.checkpoints, states, solver.home))
        self.sink.keep(checkpoints)
        if advance.shortage is None and not advance.given_back:  # else it is not all that a table holds
            self.checkpointing.made(solver.name, advance.making_s, sum(map(len, checkpoints.values())))

    def _take_shortage(self, solver: Worker, shortage: Shortage) -> None:
        """A solver ran out of memory: less at once for a while; a text that was alone ends."""
        if shortage.too_large is not None:
            self.queue.give_up(solver.name, shortage.too_large, TOO_LARGE)
        self.queue.lose(solver.name, is_suspicious=False)
        self.say(f"{solver.name} ran out of memory; its table has {self._budgets[solver.name]} positions for a while")

    def _stop_overdue(self) -> None:
        """An actor that hangs past its lease is as good as dead."""
        for worker in self.roster.calls.values():
            if worker.is_overdue(self.lease_s):
                self.roster.replace(worker, TimeoutError(f"no answer within its lease of {self.lease_s:g} s"))

    def _take_back(self, loss: Loss) -> None:
        """What a lost worker held is to be done again, by itself under another name or by others."""
        worker, cause = loss.worker, loss.cause
        if worker in self.roster.verifiers:
            self.queue.return_candidates(worker.load)
            states = dict.fromkeys(worker.load, State.CANDIDATE)
            worker.load = []
        else:
            states = self.queue.lose(worker.name, is_suspicious=loss.is_own_fault)
            self.sink.lost(states)
            self._forget(worker)
            if State.POISONED in states.values():
                worker.num_deaths = 0  # it was that text, which will not come again
        self.watch.lost(worker.name, states, reason(cause))
        if not loss.is_last:
            self.watch.replaced(worker.name, worker.num_replacements + 1)

    def _forget(self, solver: Worker) -> None:
        """What was known of a solver that starts anew, perhaps elsewhere."""
        self.num_slots[solver.name] = 0
        self._pace.forget(solver.name)
        self._budgets.pop(solver.name, None)
