"""The work queue, one transition at a time; test_work_queue_machine.py takes any order of them."""

import sys
from collections import Counter
from dataclasses import replace

import pytest

from engine.target import Invalid, Refusal
from orchestrator.run.rows import result_row
from orchestrator.work.item import State, TransitionError, positions
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue
from tests.orchestrator.made_up import ROW_CONTEXT, attempt, job, verdict
from tests.orchestrator.work.conftest import ALL, ids, solve


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
