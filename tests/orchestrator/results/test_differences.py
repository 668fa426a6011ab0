"""What differs between two nested records."""

import pytest

from engine.recipe import Recipe, load_recipe
from orchestrator.results.differences import differences
from tests.orchestrator.made_up import run_record


@pytest.mark.parametrize(
    ("then", "now", "found"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}}, []),
        ({"a": {"b": 1}, "c": None}, {"a": {"b": 2}, "c": "x"}, ["a.b: 1 -> 2", "c: None -> x"]),
        ({"a": 1.0}, {"a": {"kind": "linear"}}, ["a.kind: absent -> linear", "a: 1.0 -> absent"]),
        ({"a": {"kind": "linear"}}, {"a": 1.0}, ["a: absent -> 1.0", "a.kind: linear -> absent"]),
        ({"a": 1}, {"a": 1, "b": None}, ["b: absent -> None"]),
    ],
)
def test_every_difference_is_named_with_both_values(then, now, found):
    assert differences(then, now) == found


def test_a_weight_that_became_a_schedule_is_a_difference_of_the_run():
    scheduled = load_recipe(None, ["terms.entropy={kind = 'linear', start = 1.0, end = 0.0}"])
    found = run_record(recipe=Recipe()).differences(scheduled)
    assert {"terms.entropy: 0.0 -> absent", "terms.entropy.kind: absent -> linear"} <= set(found)
    assert "terms.entropy: absent -> 0.0" in run_record(recipe=scheduled).differences(Recipe())
