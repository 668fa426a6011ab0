"""How long a text vectors hold: every method within the same positions, ratios over the texts that both have."""

import pytest

from bench import capacity
from bench.capacity import METHODS, NUM_LENGTHS, arguments, measured, ratio, recipe_for
from engine.target import Target, encode

BUDGET = 80


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_has_a_length_for_every_text_and_is_known_by_its_recipe(tiny_llama, monkeypatch, method):
    monkeypatch.setattr(capacity, "LONGEST", {2: 6})
    monkeypatch.setattr(capacity, "FIRST_TRY", {2: 2})
    rule = tiny_llama.token_rule
    targets = [Target(text, text, tuple(encode(rule, text)), ends=False) for text in ("abc def", "bcd efg")]
    cell = measured(tiny_llama, targets, method, 2, BUDGET)
    assert len(cell["lengths"]) == 2 and all(0 <= length <= 6 for length in cell["lengths"])
    assert cell["recipe"] == recipe_for(method, BUDGET).hash != recipe_for(method, BUDGET + NUM_LENGTHS).hash


def test_per_sample_cramming_shares_its_budget_among_its_lengths():
    assert recipe_for("per-sample cramming", BUDGET).max_positions == BUDGET // NUM_LENGTHS
    assert {recipe_for(method, BUDGET).max_positions for method in METHODS[:-1]} == {BUDGET}


def test_a_ratio_is_over_the_texts_that_both_have():
    assert ratio([4, 6, 100], [2, 3]) == (2.0, 2.0, 2.0)
    mean, low, high = ratio([10, 30], [10, 10])
    assert (mean, low, high) == (2.0, 1.0, 3.0)


def test_a_model_may_be_named_and_its_budget_cut():
    args = arguments(["--model", "smollm2", "--share", "0.5", "--methods", "ours"])
    assert (args.model, args.share, args.methods) == ("smollm2", 0.5, ["ours"])


def test_another_budget_or_recipe_is_another_cell():
    asked = arguments(["--share", "5", "--set", "max_steps=9"])
    assert capacity.cell_name("ours", 4, arguments([])) == "ours, K = 4"
    assert capacity.cell_name("ours", 4, asked) == "ours, K = 4, 5 of the positions, max_steps=9"
    assert (
        recipe_for("ours", 100, asked.set).max_steps == recipe_for("per-sample cramming", 100, asked.set).max_steps == 9
    )
