"""The loop of an inversion in one process.

Owns: who is fed, when candidates are judged, what `on_step` is told. Must not know: models, how texts are solved or
judged, what a row is.

    texts -> queue -> solver -> queue -> engine -> queue -> ended items

The queue, its retries and the solver's shortages are those of `verbatim run`; leases, deaths and files are not needed.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from engine.solver import Solver
from orchestrator.corpus.intake import Accepted, Taken
from orchestrator.fleet.answers import Advance
from orchestrator.fleet.resident_solver import ResidentSolver
from orchestrator.verifiers.contract import GREEDY_AND_SCORED
from orchestrator.work.item import TERMINAL, Item, State
from orchestrator.work.work_queue import WorkQueue
from verbatim.progress import Progress
from verbatim.proof import Judging

SOLVER = "solver"
SLICE_S = 1.0
"""Seconds of solving between two looks at the candidates."""
JUDGE_FILL = 32
"""Candidates that are judged together while others are still being solved."""
TOO_LARGE = "does not fit into memory, not even alone"


@dataclass
class Loop:
    """One call's texts on their way.

    Attributes:
        num_texts: of the call.
        on_step: told after every optimisation step.
    """

    solver: ResidentSolver
    judging: Judging
    queue: WorkQueue
    num_texts: int
    on_step: Callable[[Progress], None] | None = None
    _budget: int = 1
    _step: int = 0
    _before: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def run(self, taken: Iterable[Taken]) -> list[Item]:
        """Every text to its end. Whatever is raised on the way, the solver is left without work."""
        for item in taken:
            if isinstance(item, Accepted):
                self.queue.add(item.row, item.job)
            else:
                self.queue.add_invalid(item.row, item.id, item.text, item.why)
        self.solver.empty()
        self._budget = self.solver.advance([], 0.0).table_positions
        self._before = self.solver.num_positions
        try:
            while not self.queue.is_done:
                self._solve()
                self._judge()
        finally:
            self.solver.advance([], 0.0, give_back=list(self.queue.held(SOLVER)))
        return self.queue.drain()

    def _solve(self) -> None:
        room = 2 * self._budget - self.queue.leased_positions(SOLVER)
        jobs = self.queue.lease(SOLVER, room)
        if not jobs and not self.queue.held(SOLVER):
            return
        checkpoints = self.queue.checkpoints(jobs)
        self._take(self.solver.advance(jobs, SLICE_S, checkpoints, on_step=self._tell))

    def _take(self, advance: Advance) -> None:
        self._budget = advance.table_positions
        for attempt in advance.attempts:
            self.queue.finish(SOLVER, attempt)
        if advance.shortage is not None:
            self.queue.remember(SOLVER, advance.checkpoints)
            if advance.shortage.too_large is not None:
                self.queue.give_up(SOLVER, advance.shortage.too_large, TOO_LARGE)
            self.queue.lose(SOLVER, is_suspicious=False)

    def _judge(self) -> None:
        """What waits, once there is enough of it or nothing else to do."""
        is_idle = not self.queue.num_unsolved_positions
        if is_idle or self.queue.num_waiting_candidates >= JUDGE_FILL:
            for verdict in self.judging.judge(self.queue.take_candidates(self.num_texts), GREEDY_AND_SCORED):
                self.queue.judge(verdict)
            if self.queue.is_done:
                self._tell(None)

    def _tell(self, solver: Solver | None) -> None:
        """A step was taken; without a solver, the last verdicts came in."""
        self._step += solver is not None
        if self.on_step is None:
            return
        counts = self.queue.counts
        self.on_step(
            Progress(
                step=self._step,
                num_texts=self.num_texts,
                num_done=sum(counts[state] for state in TERMINAL),
                num_exact=counts[State.VERIFIED],
                num_under_way=len(solver.active) if solver is not None else 0,
                positions=int(self.solver.num_positions - self._before),
                seconds=time.monotonic() - self._started,
            )
        )
