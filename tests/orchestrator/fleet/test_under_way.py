"""What is told of texts that take long."""

from types import SimpleNamespace

import pytest

from engine.certificate import Certificate
from orchestrator.fleet.under_way import LONG_STEPS, UnderWay, in_words, longest
from orchestrator.work.item import State
from tests.orchestrator.made_up import T, job


def slot(id, step, accuracy=0.6, *, sibling=0, margin=-0.25):
    best = SimpleNamespace(certificate=Certificate(margin, 1, T, accuracy=accuracy), window=T)
    return SimpleNamespace(job=job(id), step=step, sibling=sibling, best=best, rank=(T, 0.0, margin))


def test_the_longest_are_told_of_and_what_is_new_is_not():
    slots = [
        slot("a", LONG_STEPS),
        slot("new", LONG_STEPS - 1),
        slot("b", 400),
        slot("c", 40),
    ]
    assert [(each.id, each.steps) for each in longest(slots)] == [("b", 400), ("c", 40)]


def test_siblings_are_told_of_once_and_by_the_one_that_is_furthest():
    slots = [slot("b", 400, 0.2), slot("b", 90, 0.8, sibling=1, margin=-0.1), slot("b", 400, 0.4, sibling=2)]
    assert [str(each) for each in longest([*slots, slot("c", 40)])] == [
        "b: step 400, 4 of 5 tokens right",
        "c: step 40, 3 of 5 tokens right",
    ]


@pytest.mark.parametrize(("accuracy", "right"), [(0.6, 3), (1.0, 5), (float("nan"), 0)])
def test_tokens_right_are_those_of_the_best_prompt(accuracy, right):
    (told,) = longest([slot("a", 99, accuracy)])
    assert str(told) == f"a: step 99, {right} of 5 tokens right"


def test_a_slot_that_was_never_measured_has_none_right():
    fresh = slot("a", 99)
    fresh.best = None
    assert longest([fresh])[0].num_right == 0


def test_the_line_counts_failures_only_where_there_are_some():
    counts = {State.CANDIDATE: 2, State.VERIFIED: 9}
    assert in_words(counts, 5, 1234.5, []) == "5 under way, 2 being judged, 1,234 positions/s"
    counts |= {State.INVALID: 1, State.UNSOLVED: 2}
    lines = in_words(counts, 5, 1.0, [UnderWay("a", 40, 1, 2), UnderWay("b", 50, 1, 2)]).splitlines()
    assert lines[0].startswith("3 not exact, 5 under way")
    assert [line[0] for line in lines[1:]] == ["b", "a"]
