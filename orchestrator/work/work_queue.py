"""The work queue: every text's state, as a pure state machine.

Owns: transitions, retries, the lines of those that wait, what becomes a row. Must not know: Ray, vLLM, files, clocks,
models.

    pending -> leased -> candidate -> verified
       ^         |  |        |
       |         |  |        +-> pending (rejected: more margin), or rejected when attempts are spent
       |         |  +-> pending (unsolved: more vectors), or unsolved when attempts are spent
       |         +-> pending (given back, or lost with its node), or unsolved where it fits no worker
       |     candidate, or ended without its row in the folder -> pending (its prompt was lost with a node)
       +---------+-> poisoned when too many workers were lost with it
       +-> gone without a row where nobody wants it any more
    invalid: never could be a target

A lost worker casts suspicion on every text it held. Suspects go out again to workers that hold nothing else: first in
small groups, then each alone, so that the text that took the workers down is poisoned and its neighbours are not.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, KeysView, Mapping
from dataclasses import dataclass, field

from engine.slots import Attempt, Job
from engine.target import Refusal
from orchestrator.verifiers.contract import Candidate, Verdict
from orchestrator.work.holdings import Holdings, require_holder
from orchestrator.work.item import TERMINAL, Item, Kept, State, TransitionError, positions

MAX_LOST_WORKERS = 3
"""Workers a text may take down before it is set aside as poisoned: among others, among few, and alone."""

SUSPECT_SHARE = 8
"""A lost worker's texts go out again in groups this many times smaller. Assumption."""

TOO_LARGE = "does not fit into a solver's memory, not even alone"


@dataclass
class WorkQueue:
    """All open texts of a run. An event costs the same however many of them there are.

    Args:
        retry: the job that follows a job that came to nothing: `(job, attempt, verdict or None) -> job`.
    """

    retry: Callable[[Job, Attempt, Verdict | None], Job]
    _open: dict[str, Item] = field(default_factory=dict)
    _pending: deque[str] = field(default_factory=deque)
    _suspects: deque[str] = field(default_factory=deque)
    _candidates: deque[str] = field(default_factory=deque)
    _holdings: Holdings = field(default_factory=Holdings)
    _ended: list[Item] = field(default_factory=list)
    _counts: Counter[State] = field(default_factory=Counter)
    _positions: Counter[State] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[State]:
        """Texts by state, ended ones included."""
        return Counter({state: count for state, count in self._counts.items() if count})

    @property
    def is_done(self) -> bool:
        """Nothing open; ended items may still wait in `drain`."""
        return not self._open

    @property
    def num_open(self) -> int:
        return len(self._open)

    @property
    def num_ended(self) -> int:
        """Items that `drain` would give out."""
        return len(self._ended)

    @property
    def num_waiting_candidates(self) -> int:
        """Candidates that nobody judges yet."""
        return len(self._candidates)

    @property
    def num_candidates(self) -> int:
        """Texts whose candidate waits for a verdict or is being judged."""
        return self._counts[State.CANDIDATE]

    @property
    def num_unsolved_positions(self) -> int:
        """Read positions of all jobs that are pending or with a worker."""
        return self._positions[State.PENDING] + self._positions[State.LEASED]

    def add(self, row: int, job: Job, checkpoint: Kept | None = None) -> None:
        """A new target, pending; with a checkpoint it goes on from an earlier call's attempt."""
        id = job.key
        assert id not in self._open, f"{id} is queued already"
        item = Item(row, id, job.target.text, State.PENDING, job, checkpoint=checkpoint, num_attempts=job.attempt)
        self._open[id] = item
        self._pending.append(id)
        self._count(item, 1)

    def add_invalid(self, row: int, id: str, text: object, why: Refusal) -> None:
        """A row that cannot be a target, ended at once."""
        item = Item(row, id, text, State.INVALID, reason=str(why))
        self._ended.append(item)
        self._count(item, 1)

    def lease(self, worker: str, max_positions: int) -> list[Job]:
        """Jobs for a worker, in order, until their read positions reach `max_positions`; at least one if any.

        A worker that holds nothing gets suspects first; one that holds suspects gets nothing beside them.
        """
        holding = self._holdings.of(worker)
        if max_positions <= 0 or holding.has_suspects:
            return []
        if not self._suspects or holding.items:
            return self._take(self._pending, worker, max_positions)
        num_lost = self._open[self._suspects[0]].num_lost
        share = max(1, max_positions // SUSPECT_SHARE) if num_lost == 1 else 1
        return self._take(self._suspects, worker, share)

    def _take(self, line: deque[str], worker: str, max_positions: int) -> list[Job]:
        """Lease from the front of a line; suspects only together with those lost as often."""
        jobs: list[Job] = []
        num_lost = self._open[line[0]].num_lost if line else 0
        while line and max_positions > 0 and self._open[line[0]].num_lost == num_lost:
            item = self._open[line.popleft()]
            self._move(item, State.LEASED, {State.PENDING})
            self._holdings.hold(worker, item)
            jobs.append(item.due)
            max_positions -= positions(item.due)
        return jobs

    def checkpoints(self, jobs: list[Job]) -> dict[str, Kept]:
        """What some of these jobs can go on from, by id."""
        items = [self._item(job.key) for job in jobs]
        return {item.id: item.checkpoint for item in items if item.checkpoint is not None}

    def remember(self, worker: str, checkpoints: Mapping[str, Kept]) -> dict[int, Kept]:
        """Keep what a worker says its attempts can go on from; by row what was kept."""
        held = self._holdings.of(worker).items
        for id in checkpoints.keys() & held.keys():
            held[id].checkpoint = checkpoints[id]
        return {held[id].row: checkpoints[id] for id in checkpoints.keys() & held.keys()}

    def positions(self, id: str) -> int:
        """Positions that a text's ended attempts took."""
        return self._item(id).positions

    def held(self, worker: str) -> KeysView[str]:
        """Ids of all jobs a worker holds."""
        return self._holdings.of(worker).items.keys()

    def leased_positions(self, worker: str) -> int:
        """Read positions of all jobs a worker holds."""
        return self._holdings.of(worker).positions

    def spare(self, worker: str, max_positions: float) -> list[str]:
        """The last of a worker's jobs that together stay within `max_positions`; suspects keep their worker."""
        return self._holdings.of(worker).spare(max_positions)

    def finish(self, worker: str, attempt: Attempt) -> State:
        """A worker gives an attempt back: a candidate to judge, another try, or the end."""
        item = self._item(attempt.job.key)
        require_holder(item, worker, "gives back")
        self._require(item, {State.LEASED})
        self._holdings.release(item)
        item.count(attempt)
        if attempt.is_candidate or (attempt.is_greedy and item.is_spent):
            self._move(item, State.CANDIDATE, {State.LEASED})
            self._candidates.append(item.id)
        else:
            self._try_again(item, State.UNSOLVED, "no certified prompt", None)
        return item.state

    def take_candidates(self, limit: int) -> list[Candidate]:
        """Up to `limit` candidates that nobody judges yet, oldest first."""
        taken = [self._open[self._candidates.popleft()] for _ in range(min(limit, len(self._candidates)))]
        return [item.candidate() for item in taken]

    def return_candidates(self, ids: list[str]) -> None:
        """Candidates whose judge was lost: to be judged again, nothing concluded."""
        for id in reversed(ids):
            self._require(self._item(id), {State.CANDIDATE})
            self._candidates.appendleft(id)

    def judge(self, verdict: Verdict) -> State:
        """The verifier's word: verified, another try with more margin, or rejected."""
        item = self._item(verdict.id)
        self._require(item, {State.CANDIDATE})
        item.verdict = verdict
        if verdict.exact:
            self._end(item, State.VERIFIED, None)
        else:
            by = "the verifier's beam search" if verdict.beams > 1 else "the verifier"
            self._try_again(item, State.REJECTED, verdict.refusal or f"decoded otherwise by {by}", verdict)
        return item.state

    def redo(self, lost: Iterable[str | Item]) -> None:
        """Prompts went with their node, of candidates or of items that were given out: the same attempts again."""
        for each in lost:
            item = self._item(each) if isinstance(each, str) else self._open.setdefault(each.id, each)
            self._move(item, State.PENDING, {State.CANDIDATE, *TERMINAL})
            item.uncount()
            self._line(item).appendleft(item.id)

    def give_back(self, worker: str, checkpoints: Mapping[str, Kept | None]) -> dict[str, State]:
        """A worker that is well gives up some of its leases: they are pending again, no suspicion cast.

        Args:
            checkpoints: by id, what an attempt can go on from; None leaves what is known.
        """
        given = [item for id, item in self._holdings.of(worker).items.items() if id in checkpoints]
        for item in reversed(given):
            self._holdings.release(item)
            item.checkpoint = checkpoints[item.id] or item.checkpoint
            self._move(item, State.PENDING, {State.LEASED})
            self._line(item).appendleft(item.id)
        return {item.id: item.state for item in given}

    def give_up(self, worker: str, id: str, reason: str) -> State:
        """A worker cannot even begin on a text it holds: the end of it."""
        item = self._item(id)
        require_holder(item, worker, "gives up")
        self._holdings.release(item)
        self._end(item, State.UNSOLVED, reason)
        return item.state

    def lose(self, worker: str, *, is_suspicious: bool = True) -> dict[str, State]:
        """A worker is gone: its leases are pending again, under suspicion, or poisoned; which of them by id.

        Args:
            is_suspicious: whether its texts may have taken it down; its node's death is not their fault.
        """
        held = list(self._holdings.of(worker).items.values())
        if not is_suspicious:
            return self.give_back(worker, {item.id: None for item in held})
        for item in reversed(held):
            self._holdings.release(item)
            item.num_lost += 1
            if item.num_lost > 1:
                item.checkpoint = None  # perhaps it is this state that takes workers down
            if item.num_lost >= MAX_LOST_WORKERS:
                self._end(item, State.POISONED, f"{item.num_lost} workers were lost while they held it")
            else:
                self._move(item, State.PENDING, {State.LEASED})
                self._suspects.appendleft(item.id)
        return {item.id: item.state for item in held}

    def drop(self, ids: Collection[str]) -> list[str]:
        """Pending texts that nobody wants any more: gone, as if never added; which of `ids` they were."""
        dropped = [id for id in ids if id in self._open and self._open[id].state is State.PENDING]
        for id in dropped:
            item = self._open.pop(id)
            self._line(item).remove(id)
            self._count(item, -1)
        return dropped

    def drain(self) -> list[Item]:
        """Items that ended since the last call, each given out once."""
        ended, self._ended = self._ended, []
        return ended

    def _line(self, item: Item) -> deque[str]:
        """Where a pending text waits."""
        return self._suspects if item.num_lost else self._pending

    def _try_again(self, item: Item, spent: State, reason: str, verdict: Verdict | None) -> None:
        if item.is_spent:
            self._end(item, spent, reason)
            return
        assert item.attempt is not None
        job = self.retry(item.due, item.attempt, verdict)
        self._move(item, State.PENDING, {State.LEASED, State.CANDIDATE}, job)
        # Straggling texts go first: they decide when a run ends.
        self._pending.appendleft(item.id)

    def _end(self, item: Item, state: State, reason: str | None) -> None:
        self._move(item, state, {State.LEASED, State.CANDIDATE})
        item.reason = reason
        self._ended.append(self._open.pop(item.id))

    def _move(self, item: Item, state: State, allowed: set[State], job: Job | None = None) -> None:
        self._require(item, allowed)
        self._count(item, -1)
        item.state, item.job = state, job or item.job
        self._count(item, 1)

    def _count(self, item: Item, change: int) -> None:
        """Keep count of a state's items and of their read positions."""
        self._counts[item.state] += change
        if item.job is not None:
            self._positions[item.state] += change * positions(item.job)

    def _require(self, item: Item, allowed: set[State]) -> None:
        if item.state not in allowed:
            raise TransitionError(f"{item.id} is {item.state}; this needs {' or '.join(sorted(allowed))}")

    def _item(self, id: str) -> Item:
        if id not in self._open:
            raise TransitionError(f"{id} is not open")
        return self._open[id]
