"""What the dispatcher says about its routing, put into metrics and log.

Owns: which event becomes which metric and which line. Must not know: how either is kept.
"""

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from engine.slots import Attempt, Job
from orchestrator.dispatch.metrics import Metrics
from orchestrator.fleet.answers import Advance
from orchestrator.results.run_log import RunLog
from orchestrator.verifiers.contract import Candidate, Verdict
from orchestrator.work.item import TERMINAL, State
from orchestrator.work.work_queue import WorkQueue


@dataclass(frozen=True)
class Claim:
    """A candidate on its way to its verdict."""

    attempt: int
    since: float


@dataclass
class Watch:
    """Told of every event of a run or a search, once each.

    Attributes:
        retries: texts sent round again, by cause: `unsolved`, `rejected`, `lost_worker`, `lost_prompt`.
    """

    metrics: Metrics
    log: RunLog
    retries: Counter[str] = field(default_factory=Counter)
    _claims: dict[str, Claim] = field(default_factory=dict)
    _judging_since: dict[str, float] = field(default_factory=dict)

    def started(self, run: str, *, total: int | None, done: int, num_solvers: int) -> None:
        """The loop begins; a search does not know how many texts it will come to."""
        self.log.info("started", run=run, total=total, done=done, solvers=num_solvers)

    def finished(self, done: int, seconds: float) -> None:
        """Every row is committed."""
        self.log.info("finished", done=done, seconds=round(seconds, 1))

    def interrupted(self, error: BaseException, done: int) -> None:
        """The loop was left before its end; what ended is committed. The error's own words may quote a text."""
        self.log.warning("interrupted", cause=type(error).__name__, done=done)

    def refused(self, id: str, reason: str) -> None:
        """A row that cannot be a target."""
        self.log.info("invalid", id=id, cause=str(reason))

    def leased(self, worker: str, jobs: list[Job]) -> None:
        """Jobs went to a solver."""
        for job in jobs:
            self.log.debug("leased", id=job.key, attempt=job.attempt + 1, worker=worker)

    def advanced(self, worker: str, advance: Advance) -> None:
        """A solver came back from a slice of time."""
        self.metrics.record("verbatim_solver_positions", advance.num_positions, worker=worker)
        self.metrics.record("verbatim_solver_busy_seconds", advance.seconds, worker=worker)

    def attempted(self, worker: str, attempt: Attempt, state: State) -> None:
        """An attempt ended and the queue took it."""
        job, certificate = attempt.job, attempt.certificate
        id, number = job.key, job.attempt + 1
        outcome = "solved" if attempt.is_candidate else "unsolved"
        margin = round(certificate.min_margin, 4) if certificate else None
        self.metrics.record("verbatim_steps", attempt.steps, outcome=outcome)
        self.log.info(
            outcome, id=id, attempt=number, worker=worker, steps=attempt.steps, margin=margin, vectors=job.num_vectors
        )
        if attempt.is_candidate and certificate:
            self.metrics.record("verbatim_margin_logits", certificate.min_margin)
            self._claims[id] = Claim(number, time.monotonic())
        elif state is State.PENDING:
            self._retried(id, "unsolved", number)

    def judging(self, worker: str, candidates: list[Candidate]) -> None:
        """Candidates went to a verifier."""
        self._judging_since[worker] = time.monotonic()
        self.log.debug("judging", worker=worker, count=len(candidates))

    def judged(self, worker: str, verdicts: list[Verdict], states: Sequence[State]) -> None:
        """Verdicts came back and the queue took them."""
        now = time.monotonic()
        self.metrics.record("verbatim_verifier_busy_seconds", now - self._judging_since.get(worker, now))
        self.metrics.record("verbatim_verifier_tokens", sum(len(verdict.generated_ids) for verdict in verdicts))
        for verdict, state in zip(verdicts, states, strict=True):
            claim = self._claims.pop(verdict.id, Claim(0, now))
            self.metrics.record("verbatim_verdict_seconds", now - claim.since)
            facts = {"id": verdict.id, "attempt": claim.attempt, "worker": worker}
            self.log.info("judged", **facts, exact=verdict.exact)
            if not verdict.exact:
                cause = verdict.refusal or "decoded otherwise"
                self.log.info("rejected", **facts, cause=cause, first_mismatch=verdict.first_mismatch)
            if state is State.PENDING:
                self._retried(verdict.id, "rejected", claim.attempt)

    def lost_prompts(self, ids: Collection[str]) -> None:
        """Prompts went with their node before they were in the folder."""
        for id in ids:
            self._retried(id, "lost_prompt", None)

    def unkept(self, cause: str) -> None:
        """A checkpoint could not be written; the run goes on without it."""
        self.log.warning("checkpoint_failed", cause=cause)

    def lost(self, worker: str, states: dict[str, State], cause: str) -> None:
        """An actor died with texts in its hands; what became of each."""
        self.log.warning("actor_died", worker=worker, cause=cause, count=len(states))
        for id, state in states.items():
            if state is State.POISONED:
                self.log.warning("poisoned", id=id, worker=worker)
            else:
                self._retried(id, "lost_worker", None)

    def unwritten(self, cause: str) -> None:
        """A part could not be written; it is tried again."""
        self.log.warning("part_failed", cause=cause)

    def replaced(self, worker: str, count: int) -> None:
        """An actor was started anew."""
        self.metrics.record("verbatim_replacements", worker=worker)
        self.log.info("actor_replaced", worker=worker, count=count)

    def kept(self, counts: Counter[str], seconds: float) -> None:
        """What became of texts is in the folder: rows of a run, outcomes of a search, by status."""
        for status, count in counts.items():
            self.metrics.record("verbatim_texts", count, status=status)
        self.metrics.record("verbatim_commit_seconds", seconds)
        self.log.info("committed", count=counts.total(), counts=dict(counts), seconds=round(seconds, 4))

    def gauges(self, queue: WorkQueue, num_slots: dict[str, int], *, is_last: bool = False) -> None:
        """How things stand; called as often as the loop turns, told every few seconds and at the end."""
        if not (self.metrics.are_gauges_due or is_last):
            return
        counts = queue.counts
        for state in (State.PENDING, State.LEASED, State.CANDIDATE):
            self.metrics.record("verbatim_queue_depth", counts[state], state=str(state))
        for worker, slots in num_slots.items():
            self.metrics.record("verbatim_slots", slots, worker=worker)
        if num_ended := sum(counts[state] for state in TERMINAL):
            self.metrics.record("verbatim_exact_frac", counts[State.VERIFIED] / num_ended)

    def _retried(self, id: str, cause: str, attempt: int | None) -> None:
        self.retries[cause] += 1
        self.metrics.record("verbatim_retries", cause=cause)
        self.log.info("retried", id=id, attempt=attempt, cause=cause)
