"""What is told of texts that take long."""

from types import SimpleNamespace

import pytest

from engine.certificate import Certificate
from orchestrator.fleet.under_way import LONG_STEPS, UnderWay, in_words, longest
from orchestrator.work.item import State
from tests.orchestrator.made_up import T, job


def slot(id, step, accuracy=0.6, *, sibling=0):
    best = SimpleNamespace(certificate=Certificate(-0.25, 1, T, accuracy=accuracy), window=T)
    return SimpleNamespace(job=job(id), step=step, sibling=sibling, best=best)


def test_the_longest_are_told_of_and_what_is_new_is_not():
    slots = [
        slot("a", LONG_STEPS),
        slot("new", LONG_STEPS - 1),
        slot("b", 400),
        slot("c", 40),
        slot("b", 500, sibling=1),
    ]
    assert [(each.id, each.steps) for each in longest(slots)] == [("b", 400), ("c", 40)]


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
