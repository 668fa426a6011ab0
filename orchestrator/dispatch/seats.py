"""Seats go to whoever has work: no text waits for a worker that has no node while another sits idle on one.

Owns: which idle worker gives its seat to which, when a verifier is added, who is said to be waited for. Must not know:
how work is shared out, what it is.

A seat is what a worker holds of a node, a card as a rule. Candidates that wait for a verifier without a seat get that
of a solver which has nothing to do, as happens once too many candidates wait; texts that wait for a solver without one
get that of a verifier which has nothing to judge. Who gave its seat asks for another as soon as it is taken.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.fleet.roster import Roster
from orchestrator.fleet.verifier_actor import JUDGE_BATCH
from orchestrator.fleet.waited_for import Patience
from orchestrator.fleet.worker import Worker
from orchestrator.work.item import State
from orchestrator.work.work_queue import WorkQueue

LOOK_INTERVAL_S = 1.0

BACKLOG_S = 30.0
"""Seconds that a whole batch waits behind busy verifiers before one is added: a few judging calls. Assumption."""


@dataclass(frozen=True)
class HandOver:
    """A seat on its way from one worker to another."""

    giver: Worker
    taker: Worker
    since: float


@dataclass
class Seats:
    """Looks after the seats of a roster.

    Attributes:
        say: tells a person.
        patience_s: seconds that a worker waits for a node of its own before it is given another's seat; and that a
            hand-over may take.
        said_every_s: seconds between two messages that say who is waited for.
        is_held_back: whether solvers get no texts because too many candidates wait.
    """

    queue: WorkQueue
    roster: Roster
    say: Callable[[str], None]
    is_held_back: Callable[[], bool]
    patience_s: float
    said_every_s: float
    _patience: dict[str, Patience] = field(default_factory=dict)
    _hand_over: HandOver | None = None
    _backlog_since: float | None = None
    _looked: float = 0.0

    def __post_init__(self) -> None:
        self._patience = {kind: Patience(self.say, self.said_every_s) for kind in ("candidates", "texts", "answers")}

    def look(self) -> None:
        """Once a second, after everybody has been fed: who sits idle has nothing to do."""
        now = time.monotonic()
        if now - self._looked < LOOK_INTERVAL_S:
            return
        self._looked = now
        self._tell()
        if self._hand_over is not None:
            self._finish(self._hand_over, now)
        elif (pair := self._wanted_by_verifier(now) or self._wanted_by_solver(now)) is not None:
            self._begin(*pair, now)
        self._add_verifier(now)

    def _wanted_by_verifier(self, now: float) -> tuple[Worker, Worker] | None:
        """A solver with nothing to do, and the verifier that could use its seat."""
        num_waiting = self.queue.num_waiting_candidates
        is_any_ready = any(verifier.is_ready for verifier in self.roster.verifiers)
        if num_waiting == 0 or (is_any_ready and num_waiting < JUDGE_BATCH):
            return None
        idle = [s for s in self.roster.solvers if s.is_idle and not self.queue.leased_positions(s.name)]
        return self._pair(idle, self.roster.verifiers, now)

    def _wanted_by_solver(self, now: float) -> tuple[Worker, Worker] | None:
        """A verifier with nothing to judge, and the solver that could use its seat."""
        if self.queue.counts[State.PENDING] == 0 or self.queue.num_candidates:
            return None
        ready = [verifier for verifier in self.roster.verifiers if verifier.is_ready]
        has_seat = any(not (solver.is_aside or solver.is_without_seat) for solver in self.roster.solvers)
        if has_seat and len(ready) < 2:
            return None
        return self._pair([verifier for verifier in ready if verifier.is_idle], self.roster.solvers, now)

    def _pair(self, idle: list[Worker], kind: list[Worker], now: float) -> tuple[Worker, Worker] | None:
        """One who may give its seat, and one who has waited long enough for one that is no larger."""
        waiting = [w for w in kind if w.is_starting and now - w.asked >= self.patience_s] if idle else []
        for taker in (worker for worker in waiting if worker.needs and worker.is_without_seat):
            for giver in idle:
                if all(giver.needs.get(name, 0) >= number for name, number in taker.needs.items()):
                    return giver, taker
        return None

    def _begin(self, giver: Worker, taker: Worker, now: float) -> None:
        self.say(f"{giver.name} has nothing to do and gives its seat to {taker.name}, which has none")
        giver.stand_aside()
        self._hand_over = HandOver(giver, taker, now)

    def _finish(self, hand_over: HandOver, now: float) -> None:
        """Who gave its seat asks for another, not before it is taken; a verifier among several is not missed."""
        giver, taker = hand_over.giver, hand_over.taker
        if taker.is_without_seat and now - hand_over.since < self.patience_s:
            return
        self._hand_over = None
        if giver.is_aside:
            if giver in self.roster.verifiers and len(self.roster.verifiers) > self.roster.num_verifiers:
                self.roster.dismiss(giver)
            else:
                giver.start_again()

    def _add_verifier(self, now: float) -> None:
        """One more where a whole batch has waited behind busy verifiers for a while."""
        are_all_busy = all(verifier.is_busy for verifier in self.roster.verifiers)
        if not are_all_busy or self.queue.num_waiting_candidates < JUDGE_BATCH:
            self._backlog_since = None
            return
        self._backlog_since = self._backlog_since or now
        if now - self._backlog_since >= BACKLOG_S and self.roster.may_add_verifier:
            self._backlog_since = None
            self.roster.add_verifier()
            self.say(f"{self.queue.num_waiting_candidates} candidates wait: {self.roster.verifiers[-1].name} is added")

    def _tell(self) -> None:
        """Who is waited for, by everything of a kind."""
        num_candidates, num_pending = self.queue.num_waiting_candidates, self.queue.counts[State.PENDING]
        waits_for_verifier = num_candidates and not any(verifier.is_ready for verifier in self.roster.verifiers)
        waits_for_solver = num_pending and not self.roster.ready and not self.is_held_back()
        starting = [worker for worker in self.roster.verifiers if worker.is_starting]
        self._patience["candidates"].look(starting if waits_for_verifier else [], f"{num_candidates} candidates wait: ")
        starting = [worker for worker in self.roster.solvers if worker.is_starting]
        self._patience["texts"].look(starting if waits_for_solver else [], f"{num_pending} texts wait: ")
        busy = [] if waits_for_verifier or waits_for_solver else [w for w in self.roster.all if w.is_busy]
        is_silent = busy and all(time.monotonic() - worker.asked >= self.said_every_s for worker in busy)
        self._patience["answers"].look(busy if is_silent else [])
