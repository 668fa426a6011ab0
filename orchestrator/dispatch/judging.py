"""Candidates to verifiers, verdicts back.

Owns: when a judging call starts, how many candidates it takes. Must not know: solvers, what a verdict leads to.
"""

import math
import time
from dataclasses import dataclass

from orchestrator.dispatch.watch import Watch
from orchestrator.fleet.roster import Roster
from orchestrator.fleet.verifier_actor import JUDGE_BATCH
from orchestrator.fleet.worker import Worker
from orchestrator.verifiers.contract import GREEDY, Mode, Verdict
from orchestrator.work.work_queue import WorkQueue


@dataclass
class Judging:
    """Feeds the verifiers of a roster from the line of candidates.

    Attributes:
        fill: a call starts with this many candidates,
        wait_s: or when the first has waited this long, or when nobody is at work.
        mode: how candidates are judged.
    """

    queue: WorkQueue
    roster: Roster
    watch: Watch
    fill: int
    wait_s: float
    mode: Mode = GREEDY
    _oldest: float | None = None

    def feed(self) -> None:
        """Give every idle verifier its share of what waits, if it is time to."""
        for verifier in self.roster.verifiers:
            if verifier.has_started and not verifier.is_ready and verifier.in_flight is None:
                self.roster.move(verifier)
        idle = [verifier for verifier in self.roster.verifiers if verifier.is_idle]
        if not idle or not self._is_due():
            return
        share = max(self.fill, math.ceil(self.queue.num_waiting_candidates / len(idle)))
        for verifier in idle:
            if candidates := self.queue.take_candidates(min(share, JUDGE_BATCH)):
                verifier.load = [candidate.id for candidate in candidates]
                verifier.ask(verifier.actor.judge.remote(candidates, self.mode))
                self.watch.judging(verifier.name, candidates)
        self._oldest = None

    def take(self, verifier: Worker, verdicts: list[Verdict]) -> None:
        """Its verdicts came; none of a candidate whose prompt is lost."""
        judged = {verdict.id for verdict in verdicts}
        lost = [id for id in verifier.load if id not in judged]
        verifier.num_deaths, verifier.load = 0, []
        if lost:
            self.queue.redo(lost)
            self.watch.lost_prompts(lost)
        states = [self.queue.judge(verdict) for verdict in verdicts]
        self.watch.judged(verifier.name, verdicts, states)

    def _is_due(self) -> bool:
        if self.queue.num_waiting_candidates == 0:
            self._oldest = None
            return False
        now = time.monotonic()
        self._oldest = self._oldest or now
        if self.queue.num_waiting_candidates >= self.fill or now - self._oldest >= self.wait_s:
            return True
        return not any(solver.is_busy for solver in self.roster.solvers)
