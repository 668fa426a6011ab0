"""One text on its way through the work queue.

Owns: its states, what is known of it. Must not know: the other texts, which transitions are allowed.
"""

from dataclasses import dataclass
from enum import StrEnum

from engine.elsewhere import StateElsewhere
from engine.held import as_stored
from engine.slots import Attempt, Job
from engine.target import Target
from orchestrator.verifiers.contract import Candidate, Verdict

Kept = bytes | StateElsewhere
"""A checkpoint, or what stands for it."""


class State(StrEnum):
    PENDING = "pending"
    LEASED = "leased"
    CANDIDATE = "candidate"
    VERIFIED = "verified"
    REJECTED = "rejected"
    UNSOLVED = "unsolved"
    INVALID = "invalid"
    POISONED = "poisoned"


TERMINAL = frozenset({State.VERIFIED, State.REJECTED, State.UNSOLVED, State.INVALID, State.POISONED})


class TransitionError(AssertionError):
    """An event that the item's state does not allow: a fault of ours, or a late duplicate."""


@dataclass
class Item:
    """One text on its way through the run.

    Attributes:
        id: its job's key.
        row: its position in the corpus.
        job: the attempt that is next or under way; None for an invalid row.
        worker: who holds the lease, while there is one.
        attempt: the last attempt that came back.
        verdict: the last verdict.
        reason: why it ended without being verified.
        checkpoint: what the attempt under way can go on from, on another worker or after a restart.
    """

    row: int
    id: str
    text: object
    state: State
    job: Job | None = None
    worker: str | None = None
    attempt: Attempt | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    checkpoint: Kept | None = None
    num_attempts: int = 0
    num_lost: int = 0
    steps: int = 0
    positions: int = 0
    seconds: float = 0.0

    @property
    def due(self) -> Job:
        """The job that is next or under way, of a row that is no invalid one."""
        assert self.job is not None, f"{self.id} is invalid and has no job"
        return self.job

    @property
    def target(self) -> Target:
        return self.due.target

    @property
    def is_spent(self) -> bool:
        """Whether no attempt follows the last one."""
        spent = self.attempt is not None and self.attempt.positions >= self.due.budget
        return spent or self.num_attempts >= self.due.recipe.attempts

    def count(self, attempt: Attempt) -> None:
        """One more attempt came back."""
        self.checkpoint = None
        self.num_lost = 0  # it came back: whatever took a worker down before, it was not this text
        self.attempt = attempt
        self.num_attempts += 1
        self.steps += attempt.steps
        self.positions += attempt.positions
        self.seconds += attempt.seconds
        self.verdict = None  # it was given on another prompt

    def uncount(self) -> None:
        """The prompt of the last attempt is lost: as if that had never come back."""
        attempt = self.attempt
        assert attempt is not None, f"{self.id} was not attempted"
        if self.due.attempt != attempt.job.attempt:
            self.job = attempt.job  # it ended before its next attempt came back
        self.attempt = self.verdict = self.reason = None
        self.num_attempts -= 1
        self.steps -= attempt.steps
        self.positions -= attempt.positions
        self.seconds -= attempt.seconds

    def candidate(self) -> Candidate:
        """What the last attempt claims; the last of all may hold for greedy decoding alone, whatever was asked for."""
        attempt = self.attempt
        assert attempt is not None, f"{self.id} was not attempted"
        for_beams = attempt.is_candidate and attempt.job.recipe.proof == "beam"
        return Candidate(self.id, as_stored(attempt.prompt_KD), attempt.job.target.token_ids, for_beams)


def positions(job: Job) -> int:
    """Read positions all siblings of a job take in a solver's table."""
    return job.num_positions * job.recipe.siblings
