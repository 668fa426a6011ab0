"""The work queue under any order of events: every text ends once, none is lost, none is doubled."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.target import Invalid, Refusal
from orchestrator.work.item import TERMINAL, State, TransitionError, positions
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import MAX_LOST_WORKERS, WorkQueue
from tests.orchestrator.made_up import attempt, job, verdict

WORKERS = st.sampled_from(["w0", "w1", "w2"])
COUNTS = st.integers(1, 5)


class QueueMachine(RuleBasedStateMachine):
    """Adds texts, leases, finishes, judges and loses workers; remembers only what it was told."""

    @initialize(grows=st.booleans())
    def start(self, grows):
        self.queue = WorkQueue(make_retry(context=1024, grows=grows))
        self.attempts_of = {}  # id: attempts allowed; 0 for an invalid row
        self.held = []  # (worker, job) under way
        self.given_back = []  # (worker, attempt) that the queue took
        self.judging = []  # candidates at the verifier
        self.drained = []
        self.num_redone = Counter()  # by id, how often its prompt was lost
        self.num_added = 0

    @rule(attempts=st.integers(1, 3))
    def add(self, attempts):
        id = self.new_id()
        self.queue.add(self.num_added, job(id, attempts=attempts))
        self.attempts_of[id] = attempts

    @rule()
    def add_invalid(self):
        id = self.new_id()
        self.queue.add_invalid(self.num_added, id, None, Refusal(Invalid.NULL_TEXT))
        self.attempts_of[id] = 0

    def new_id(self):
        self.num_added += 1
        return f"text-{self.num_added}"

    @rule(worker=WORKERS, max_positions=st.integers(0, 40))
    def lease(self, worker, max_positions):
        self.held += [(worker, job) for job in self.queue.lease(worker, max_positions)]

    @invariant()
    def suspects_keep_to_themselves(self):
        """What a worker was lost with is held alone, or with others lost once."""
        for worker in ("w0", "w1", "w2"):
            lost = [item.num_lost for item in self.queue._open.values() if item.worker == worker]
            assert not any(lost) or set(lost) == {1} or len(lost) == 1

    @invariant()
    def what_is_kept_count_of_is_what_a_scan_finds(self):
        items = self.queue._open.values()
        for worker in ("w0", "w1", "w2"):
            held = {item.id: item for item in items if item.worker == worker}
            assert self.queue._holdings.of(worker).items == held
            assert self.queue.leased_positions(worker) == sum(positions(item.job) for item in held.values())
        unsolved = [item for item in items if item.state in (State.PENDING, State.LEASED)]
        assert self.queue.num_unsolved_positions == sum(positions(item.job) for item in unsolved)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), is_solved=st.booleans())
    def finish(self, data, is_solved):
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        worker, leased = held
        done = attempt(leased, is_solved=is_solved)
        state = self.queue.finish(worker, done)
        self.given_back.append((worker, done))
        assert state is State.CANDIDATE if is_solved else state in (State.PENDING, State.UNSOLVED)

    @precondition(lambda self: self.given_back)
    @rule(data=st.data())
    def finish_late(self, data):
        worker, done = data.draw(st.sampled_from(self.given_back))
        id = done.job.target.id
        if not any(holder == worker and job.target.id == id for holder, job in self.held):
            self.refused(lambda: self.queue.finish(worker, done))

    @rule(limit=COUNTS)
    def take_candidates(self, limit):
        self.judging += [candidate.id for candidate in self.queue.take_candidates(limit)]

    @precondition(lambda self: self.judging)
    @rule(said=st.sampled_from(["exact", "otherwise", "refused"]))
    def judge(self, said):
        id = self.judging.pop(0)
        state = self.queue.judge(verdict(id, exact=said == "exact", refusal="bad width" if said == "refused" else None))
        assert state is State.VERIFIED if said == "exact" else state in (State.PENDING, State.REJECTED)
        self.refused(lambda: self.queue.judge(verdict(id)))

    @rule(worker=WORKERS, is_suspicious=st.booleans())
    def lose(self, worker, is_suspicious):
        states = self.queue.lose(worker, is_suspicious=is_suspicious)
        assert is_suspicious or State.POISONED not in states.values()
        self.held = [(holder, job) for holder, job in self.held if holder != worker]

    @rule(worker=WORKERS, room=st.integers(0, 20))
    def give_back(self, worker, room):
        ids = self.queue.spare(worker, room)
        assert self.queue.give_back(worker, dict.fromkeys(ids, b"state")) == dict.fromkeys(ids, State.PENDING)
        self.held = [(holder, job) for holder, job in self.held if job.target.id not in ids]

    @precondition(lambda self: self.attempts_of)
    @rule(data=st.data())
    def drop(self, data):
        ids = data.draw(st.sets(st.sampled_from(sorted(self.attempts_of)), max_size=3))
        pending = {id for id in ids if id in self.queue._open and self.queue._open[id].state is State.PENDING}
        assert set(self.queue.drop(ids)) == pending
        for id in pending:
            del self.attempts_of[id]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_up(self, data):
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        worker, leased = held
        assert self.queue.give_up(worker, leased.target.id, "too large") is State.UNSOLVED
        self.refused(lambda: self.queue.give_up(worker, leased.target.id, "too large"))

    @precondition(lambda self: self.judging or any(item.attempt for item in self.drained))
    @rule(data=st.data())
    def lose_a_prompt(self, data):
        ended = {item.id: item for item in self.drained if item.attempt is not None}
        id = data.draw(st.sampled_from([*self.judging, *ended]))
        self.queue.redo([ended.get(id, id)])
        self.judging = [other for other in self.judging if other != id]
        self.drained = [item for item in self.drained if item.id != id]
        self.num_redone[id] += 1

    @rule()
    def lose_the_verifier(self):
        self.queue.return_candidates(self.judging)
        self.judging = []

    @rule()
    def drain(self):
        self.drained += self.queue.drain()

    @invariant()
    def counts_add_up(self):
        counts = self.queue.counts
        assert counts.total() == len(self.attempts_of)
        assert counts[State.LEASED] == len(self.held)
        assert counts[State.CANDIDATE] == len(self.judging) + self.queue.num_waiting_candidates
        assert sum(counts[state] for state in TERMINAL) == len(self.drained) + self.queue.num_ended
        assert counts.total() == self.queue.num_open + self.queue.num_ended + len(self.drained)

    @invariant()
    def no_text_is_held_or_ended_twice(self):
        busy = [job.target.id for _, job in self.held] + self.judging + [item.id for item in self.drained]
        assert len(busy) == len(set(busy))

    @invariant()
    def tries_are_bounded(self):
        for item in self.drained:
            assert item.state in TERMINAL
            assert item.num_attempts <= self.attempts_of[item.id]
            assert item.num_lost <= MAX_LOST_WORKERS + self.num_redone[item.id]

    def teardown(self):
        """Every text still open can be brought to an end, and then each has ended exactly once."""
        if not hasattr(self, "queue"):
            return
        while not self.queue.is_done:
            self.held += [("w0", job) for job in self.queue.lease("w0", 10**6)]
            for worker, leased in self.held:
                self.queue.finish(worker, attempt(leased))
            self.held = []
            self.take_candidates(10**6)
            while self.judging:
                self.queue.judge(verdict(self.judging.pop(0)))
        self.drain()
        assert sorted(item.id for item in self.drained) == sorted(self.attempts_of)
        self.counts_add_up()

    def refused(self, event):
        """An event out of place raises and changes nothing."""
        before = self.queue.counts
        try:
            event()
        except TransitionError:
            assert self.queue.counts == before
        else:
            raise AssertionError("a late duplicate was taken")


QueueMachine.TestCase.settings = settings(max_examples=500, stateful_step_count=40, deadline=None, derandomize=True)
test_every_text_ends_exactly_once_under_any_order_of_events = QueueMachine.TestCase
