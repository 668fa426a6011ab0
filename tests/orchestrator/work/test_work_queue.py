"""The work queue, one transition at a time; test_work_queue_machine.py takes any order of them."""

import math
import sys
from collections import Counter
from dataclasses import replace

import pytest

from engine.target import Invalid, Refusal
from orchestrator.run.rows import result_row
from orchestrator.work.item import State, TransitionError, positions
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import MAX_LOST_WORKERS, SUSPECT_SHARE, WorkQueue
from tests.orchestrator.made_up import ROW_CONTEXT, attempt, job, verdict

ALL = 10**6


@pytest.fixture
def queue():
    """Texts a, b and c, two attempts each, pending."""
    queue = WorkQueue(make_retry(context=1024, grows=True))
    for row, id in enumerate("abc"):
        queue.add(row, job(id, attempts=2, growth=1.5))
    return queue


def solve(queue, jobs, worker="w"):
    """Give every job back as a candidate."""
    return [queue.finish(worker, attempt(job)) for job in jobs]


def ids(jobs):
    return [job.target.id for job in jobs]


def test_a_text_goes_from_pending_to_verified(queue):
    assert queue.counts == Counter({State.PENDING: 3})
    jobs = queue.lease("w", ALL)
    assert ids(jobs) == ["a", "b", "c"] and queue.counts == Counter({State.LEASED: 3})
    assert solve(queue, jobs) == [State.CANDIDATE] * 3
    assert [candidate.id for candidate in queue.take_candidates(2)] == ["a", "b"]
    assert queue.num_waiting_candidates == 1 and queue.num_candidates == 3
    assert queue.judge(verdict("a")) is State.VERIFIED
    (item,) = queue.drain()
    assert (item.id, item.row, item.state, item.num_attempts, item.steps) == ("a", 0, State.VERIFIED, 1, 11)
    assert queue.drain() == [] and queue.num_open == 2 and not queue.is_done


def test_whose_prompt_is_lost_goes_round_again_under_the_same_job_as_if_it_had_never_come_back(queue):
    jobs = queue.lease("w", ALL)
    solve(queue, jobs)
    queue.take_candidates(2)
    queue.judge(verdict("a"))
    (ended,) = queue.drain()
    queue.redo([ended, "b"])
    assert queue.counts == Counter({State.PENDING: 2, State.CANDIDATE: 1}) and queue.num_open == 3
    again = queue.lease("v", ALL)
    assert {job.key: job for job in again} == {job.key: job for job in jobs[:2]}
    solve(queue, again, "v")
    for candidate in queue.take_candidates(3):
        queue.judge(verdict(candidate.id))
    assert [(item.num_attempts, item.steps, item.positions) for item in queue.drain()] == [(1, 11, 13)] * 3
    with pytest.raises(TransitionError, match="a is not open"):
        queue.redo(["a"])


def test_a_poisoned_row_whose_prompt_is_lost_stands_among_the_suspects_again(queue):
    """Its second attempt took workers down; its row holds the prompt of the first."""
    queue.finish("w", attempt(queue.lease("w", 1)[0], is_solved=False))
    for number in range(MAX_LOST_WORKERS):
        assert ids(queue.lease(f"w{number}", 1)) == ["a"]
        queue.lose(f"w{number}")
    (item,) = queue.drain()
    assert ids(queue.lease("v", 1)) == ["b"]
    queue.redo([item])
    assert ids(queue.lease("v", ALL)) == ["c"], "not beside others"
    assert ids(queue.lease("u", ALL)) == ["a"] and queue.lease("u", ALL) == []


def test_a_lease_ends_with_the_job_that_reaches_the_limit(queue):
    each = positions(job("a"))
    assert ids(queue.lease("w", 0)) == []
    assert ids(queue.lease("w", 1)) == ["a"]
    assert ids(queue.lease("v", each + 1)) == ["b", "c"]
    assert queue.leased_positions("w") == each and queue.leased_positions("v") == 2 * each


def test_siblings_count_towards_a_lease():
    assert positions(job("a", siblings=4)) == 4 * positions(job("a"))


def test_a_candidate_carries_the_attempts_prompt_and_the_targets_tokens(queue):
    (leased,) = queue.lease("w", 1)
    made = attempt(leased)
    queue.finish("w", made)
    (candidate,) = queue.take_candidates(1)
    assert candidate.prompt_KD.tobytes() == made.prompt_KD.numpy().tobytes()
    assert candidate.token_ids == leased.target.token_ids


def test_an_unsolved_text_is_first_in_line_with_more_vectors_until_attempts_are_spent(queue):
    (first,) = queue.lease("w", 1)
    assert queue.finish("w", attempt(first, is_solved=False)) is State.PENDING
    (second,) = queue.lease("w", 1)
    assert second.target.id == "a" and second.attempt == 1 and second.num_vectors > first.num_vectors
    assert queue.finish("w", attempt(second, is_solved=False)) is State.UNSOLVED
    (item,) = queue.drain()
    assert (item.num_attempts, item.reason, item.steps) == (2, "no certified prompt", 22)


def test_a_text_that_is_greedy_and_not_proved_for_beams_is_judged_when_no_attempt_is_left():
    queue = WorkQueue(make_retry(context=1024, grows=True))
    queue.add(0, job("a", attempts=2, growth=1.5, proof="beam"))
    (first,) = queue.lease("w", 1)
    assert queue.finish("w", attempt(first)) is State.PENDING
    (second,) = queue.lease("w", 1)
    assert second.num_vectors > first.num_vectors
    assert queue.finish("w", attempt(second)) is State.CANDIDATE
    (candidate,) = queue.take_candidates(1)
    assert not candidate.for_beams
    assert queue.judge(verdict("a")) is State.VERIFIED
    (item,) = queue.drain()
    assert result_row(item, ROW_CONTEXT)["proof"] == "greedy"


def test_a_certified_text_claims_beams_and_is_rejected_where_they_say_otherwise():
    queue = WorkQueue(make_retry(context=1024, grows=True))
    queue.add(0, job("a", attempts=2, proof="beam"))
    for state in (State.PENDING, State.REJECTED):
        (leased,) = queue.lease("w", 1)
        assert queue.finish("w", attempt(leased, slack=2.0)) is State.CANDIDATE
        (candidate,) = queue.take_candidates(1)
        assert candidate.for_beams
        assert queue.judge(replace(verdict("a", exact=False), beams=4)) is state
    (item,) = queue.drain()
    row = result_row(item, ROW_CONTEXT)
    assert (row["reason"], row["proof"]) == ("decoded otherwise by the verifier's beam search", None)


def test_a_rejected_text_is_tried_again_and_then_rejected_with_a_reason(queue):
    solve(queue, queue.lease("w", 1))
    queue.take_candidates(1)
    assert queue.judge(verdict("a", exact=False)) is State.PENDING
    solve(queue, queue.lease("w", 1))
    queue.take_candidates(1)
    assert queue.judge(verdict("a", exact=False)) is State.REJECTED
    (item,) = queue.drain()
    assert item.reason == "decoded otherwise by the verifier" and item.num_attempts == 2


def test_a_refused_candidate_keeps_the_verifiers_reason(queue):
    queue.add(3, job("once", attempts=1))
    jobs = queue.lease("w", ALL)
    solve(queue, [jobs[3]])
    queue.take_candidates(1)
    assert queue.judge(verdict("once", exact=False, refusal="prompt width 2")) is State.REJECTED
    assert queue.drain()[0].reason == "prompt width 2"


def test_a_lost_workers_texts_come_first_and_alone_by_themselves_before_the_others(queue):
    queue.lease("w", ALL)
    queue.add(3, job("d"))
    queue.lose("w")
    assert queue.leased_positions("w") == 0
    suspects = queue.lease("v", ALL)
    assert ids(suspects) == ["a", "b", "c"] and queue.lease("v", ALL) == []
    assert ids(queue.lease("u", ALL)) == ["d"]
    solve(queue, suspects, "v")
    assert queue.counts == Counter({State.CANDIDATE: 3, State.LEASED: 1})


def test_suspects_go_out_in_groups_that_get_smaller(queue):
    for number in range(3, 20):
        queue.add(number, job(f"text-{number}"))
    room = 20 * positions(job("a"))
    assert len(queue.lease("w", room)) == 20
    queue.lose("w")
    group = queue.lease("w", room)
    assert len(group) == math.ceil(20 / SUSPECT_SHARE)
    queue.lose("w")
    assert len(queue.lease("w", room)) == 1 and len(queue.lease("v", room)) == 1


def test_one_poison_text_takes_no_other_down_with_it(queue):
    for number in range(3, 40):
        queue.add(number, job(f"text-{number}"))
    ended = []
    while not queue.is_done:
        jobs = queue.lease("w", 20 * positions(job("a")))
        if "text-7" in ids(jobs):
            queue.lose("w")
        else:
            solve(queue, jobs)
            for candidate in queue.take_candidates(40):
                queue.judge(verdict(candidate.id))
        ended += queue.drain()
    assert len(ended) == 40
    assert [item.id for item in ended if item.state is not State.VERIFIED] == ["text-7"]


def test_a_lost_worker_takes_no_attempt_and_no_other_workers_lease(queue):
    (leased,) = queue.lease("w", 1)
    queue.lease("v", 1)
    queue.lose("w")
    assert queue.counts == Counter({State.PENDING: 2, State.LEASED: 1})
    assert ids(queue.lease("v", 1)) == ["c"], "a worker that holds something gets no suspect"
    solve(queue, queue.lease("u", 1), "u")
    assert [candidate.id for candidate in queue.take_candidates(1)] == [leased.target.id]
    queue.judge(verdict("a"))
    assert queue.drain()[0].num_attempts == 1


def test_a_text_that_too_many_workers_were_lost_with_is_poisoned(queue):
    for number in range(MAX_LOST_WORKERS):
        assert ids(queue.lease(f"w{number}", 1)) == ["a"]
        queue.lose(f"w{number}")
    (item,) = queue.drain()
    assert item.state is State.POISONED and f"{MAX_LOST_WORKERS} workers" in item.reason
    assert ids(queue.lease("w", ALL)) == ["b", "c"]


def test_a_text_whose_workers_nodes_died_is_never_suspected(queue):
    for _ in range(2 * MAX_LOST_WORKERS):
        assert ids(queue.lease("w", 1)) == ["a"]
        queue.remember("w", {"a": b"1"})
        assert queue.lose("w", is_suspicious=False) == {"a": State.PENDING}
    jobs = queue.lease("v", ALL)
    assert ids(jobs) == ["a", "b", "c"] and queue.checkpoints(jobs) == {"a": b"1"}
    assert queue.lease("u", ALL) == [] and queue.counts == Counter({State.LEASED: 3})


def test_a_suspect_that_is_given_back_stays_one(queue):
    queue.lease("w", ALL)
    queue.lose("w")
    queue.add(3, job("d"))
    queue.lease("v", ALL)
    queue.lose("v", is_suspicious=False)
    assert ids(queue.lease("u", ALL)) == ["a", "b", "c"] and ids(queue.lease("t", ALL)) == ["d"]


def test_a_worker_gives_back_the_last_of_what_it_holds(queue):
    each = positions(job("a"))
    queue.lease("w", ALL)
    assert queue.spare("w", each - 1) == [] and queue.spare("v", ALL) == []
    assert queue.spare("w", 2 * each) == ["c", "b"]
    assert queue.num_unsolved_positions == 3 * each
    queue.remember("w", {"b": b"1"})
    given = queue.give_back("w", {"c": b"2", "b": None, "elsewhere": b"3"})
    assert given == {"b": State.PENDING, "c": State.PENDING}
    assert queue.leased_positions("w") == each and queue.num_unsolved_positions == 3 * each
    jobs = queue.lease("v", ALL)
    assert ids(jobs) == ["b", "c"] and queue.checkpoints(jobs) == {"b": b"1", "c": b"2"}


def test_a_text_that_nobody_wants_any_more_leaves_if_nobody_works_on_it(queue):
    each = positions(job("a"))
    queue.lease("w", each)
    queue.add(3, job("d"))
    assert queue.drop({"a", "b", "elsewhere"}) == ["b"]
    assert list(queue.held("w")) == ["a"] and queue.num_unsolved_positions == 3 * each
    assert queue.counts == {State.LEASED: 1, State.PENDING: 2} and not queue.drain()
    queue.lose("w")  # a suspect stands in another line
    assert queue.drop(["a"]) == ["a"]
    assert ids(queue.lease("w", ALL)) == ["c", "d"]
    queue.add(4, job("b"))
    assert ids(queue.lease("v", ALL)) == ["b"], "it may come again"


def test_positions_of_ended_attempts_are_told(queue):
    (leased, *_) = queue.lease("w", ALL)
    assert queue.positions("a") == 0
    done = attempt(leased, is_solved=False)
    queue.finish("w", done)
    assert queue.positions("a") == done.positions > 0


def test_suspects_are_not_spared(queue):
    queue.lease("w", ALL)
    queue.lose("w")
    queue.lease("v", ALL)
    assert queue.spare("v", ALL) == []


def test_a_text_that_fits_no_worker_ends_unsolved_with_the_reason(queue):
    queue.lease("w", 1)
    with pytest.raises(TransitionError, match="v gives up what w holds"):
        queue.give_up("v", "a", "too large")
    assert queue.give_up("w", "a", "too large") is State.UNSOLVED
    (item,) = queue.drain()
    assert (item.id, item.reason, item.attempt, item.num_attempts) == ("a", "too large", None, 0)


def test_candidates_of_a_lost_verifier_are_judged_again_in_their_order(queue):
    solve(queue, queue.lease("w", ALL))
    taken = [candidate.id for candidate in queue.take_candidates(2)]
    queue.return_candidates(taken)
    assert [candidate.id for candidate in queue.take_candidates(ALL)] == ["a", "b", "c"]


def test_an_invalid_row_ends_at_once(queue):
    queue.add_invalid(7, "x", "", Refusal(Invalid.EMPTY))
    (item,) = queue.drain()
    assert (item.row, item.id, item.state, item.reason) == (7, "x", State.INVALID, "empty")
    assert queue.counts[State.INVALID] == 1


def test_a_queued_id_cannot_be_added_twice(queue):
    with pytest.raises(AssertionError, match="a is queued already"):
        queue.add(9, job("a"))


def test_events_that_the_state_does_not_allow_are_refused_and_change_nothing(queue):
    (leased,) = queue.lease("w", 1)
    before = queue.counts
    with pytest.raises(TransitionError, match="w gives back what nobody holds"):
        queue.finish("w", attempt(job("b")))
    with pytest.raises(TransitionError, match="v gives back what w holds"):
        queue.finish("v", attempt(leased))
    with pytest.raises(TransitionError, match="a is leased; this needs candidate"):
        queue.judge(verdict("a"))
    with pytest.raises(TransitionError, match="a is leased; this needs candidate"):
        queue.return_candidates(["a"])
    with pytest.raises(TransitionError, match="x is not open"):
        queue.judge(verdict("x"))
    assert queue.counts == before


def test_late_duplicates_are_refused(queue):
    (leased,) = queue.lease("w", 1)
    solve(queue, [leased])
    with pytest.raises(TransitionError):
        queue.finish("w", attempt(leased))
    queue.judge(verdict("a"))
    with pytest.raises(TransitionError):
        queue.judge(verdict("a"))
    with pytest.raises(TransitionError):
        queue.finish("w", attempt(leased))
    assert [item.id for item in queue.drain()] == ["a"]


def test_a_lost_workers_attempts_go_on_from_what_was_remembered(queue):
    jobs = queue.lease("w", ALL)
    assert queue.checkpoints(jobs) == {}
    assert queue.remember("w", {"a": b"1", "c": b"3", "elsewhere": b"9"}) == {0: b"1", 2: b"3"}
    assert queue.remember("v", {"a": b"7"}) == {}, "only who holds a text may say"
    queue.lose("w")
    again = queue.lease("v", ALL)
    assert queue.checkpoints(again) == {"a": b"1", "c": b"3"}
    queue.lose("v")
    assert queue.checkpoints(queue.lease("u", ALL)) == {}, "a state that was lost twice may be the cause"


def test_an_attempt_that_ended_leaves_nothing_to_go_on_from(queue):
    jobs = queue.lease("w", ALL)
    queue.remember("w", {"a": b"1"})
    queue.finish("w", attempt(jobs[0], is_solved=False))
    queue.lease("w", ALL)
    queue.lose("w")
    assert queue.checkpoints(queue.lease("v", ALL)) == {}


def test_a_text_added_with_a_checkpoint_has_its_earlier_attempts_counted(queue):
    queue.add(7, replace(job("late", attempts=2), attempt=1), b"state")
    jobs = queue.lease("w", ALL)
    assert queue.checkpoints(jobs) == {"late": b"state"}
    assert queue.finish("w", attempt(jobs[-1], is_solved=False)) is State.UNSOLVED


def test_a_texts_way_through_the_queue_costs_the_same_with_ten_times_as_many_open():
    assert num_operations(num_others=20) == num_operations(num_others=200)


def num_operations(num_others):
    """Bytecode operations that one text's way takes beside others, half of them leased."""
    queue = WorkQueue(make_retry(context=1024, grows=True))
    for row in range(num_others):
        queue.add(row, job(f"other-{row}"))
    queue.lease("v", positions(job("other-0")) * num_others // 2)
    count = 0

    def trace(frame, event, _):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        queue.add(num_others, job("a"))
        (leased,) = queue.lease("w", 1)
        queue.remember("w", {leased.key: b"1"})
        queue.finish("w", attempt(leased, is_solved=False))
        queue.lose("w")
        solve(queue, queue.lease("w", 1))
        queue.take_candidates(1)
        queue.judge(verdict(leased.key))
        assert queue.leased_positions("w") == 0 < queue.num_unsolved_positions
    finally:
        sys.settrace(before)
    assert len(queue.drain()) == 1 and count > 0
    return count


def test_a_text_whose_budget_is_spent_is_not_tried_again():
    queue = WorkQueue(make_retry(context=1024, grows=True))
    (spent, left) = (replace(job(id, attempts=2), budget=budget) for id, budget in (("spent", 13.0), ("left", 13.5)))
    queue.add(0, spent)
    queue.add(1, left)
    states = [queue.finish("w", attempt(job, is_solved=False)) for job in queue.lease("w", ALL)]
    assert states == [State.UNSOLVED, State.PENDING], "an attempt takes 13 positions"
