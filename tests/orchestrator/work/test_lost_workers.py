"""The work queue where workers are lost or give texts back: who is suspected, what an attempt goes on from."""

import math
from collections import Counter

from orchestrator.work.item import State, positions
from orchestrator.work.work_queue import MAX_LOST_WORKERS, SUSPECT_SHARE
from tests.orchestrator.made_up import attempt, job, verdict
from tests.orchestrator.work.conftest import ALL, ids, solve


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


def test_suspects_are_not_spared(queue):
    queue.lease("w", ALL)
    queue.lose("w")
    queue.lease("v", ALL)
    assert queue.spare("v", ALL) == []


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
