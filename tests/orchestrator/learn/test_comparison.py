"""What a start is worth: paired texts, all work counted, an interval."""

from dataclasses import replace

import pytest

from engine.recipe import load_recipe
from engine.samples import sample_targets
from orchestrator.learn.comparison import Worth, compare, interval
from tests.engine.jobs import PINNED

WORTH = Worth(8, 0.5, 0.4, 0.6, solved=(8, 8), steps=(5, 10), positions=(100, 200))


def test_a_recipe_against_itself_is_worth_one(tiny_llama):
    recipe, targets = load_recipe(None, [*PINNED, "max_steps=20"]), sample_targets(tiny_llama.token_rule, 8)
    told = []
    worth = compare(
        tiny_llama, targets, recipe, recipe, tokens_per_vector=2.0, tell=lambda *counts: told.append(counts)
    )
    assert worth is not None and (worth.texts, worth.ratio, worth.low, worth.high) == (4, 1, 1, 1)
    assert worth.steps[0] == worth.steps[1] <= 20 and not worth.pays
    assert told[-1] == (8, 8)


def test_fewer_steps_of_the_same_texts_are_a_ratio_below_one(tiny_llama):
    never = [*PINNED, "stop_margin=100", "loss.margin=100"]
    short, long = (load_recipe(None, [*never, f"max_steps={steps}"]) for steps in (3, 7))
    worth = compare(tiny_llama, sample_targets(tiny_llama.token_rule, 8), short, long, tokens_per_vector=4.0)
    assert worth is not None and worth.steps == (3, 7) and worth.solved == (0, 0)
    assert worth.ratio == pytest.approx(4 / 8, abs=1e-4), "a step more is measured than is taken"
    assert worth.low == worth.high == worth.ratio, "every text saves the same share"


def test_texts_that_do_not_end_in_time_are_left_out(tiny_llama):
    recipe = load_recipe(None, [*PINNED])
    targets = sample_targets(tiny_llama.token_rule, 8)
    assert compare(tiny_llama, targets, recipe, recipe, tokens_per_vector=2.0, seconds=0) is None


def test_a_start_pays_once_what_it_saves_is_what_its_training_cost():
    assert WORTH.pays and WORTH.texts_to_pay(1050) == 11
    for unsure in (replace(WORTH, high=1.01), replace(WORTH, solved=(7, 8))):
        assert not unsure.pays and unsure.texts_to_pay(1050) is None


def test_an_interval_holds_the_ratio_and_is_the_same_each_time():
    work = [(10 + n % 7, 20 + n % 5) for n in range(30)]
    low, high = interval(work)
    ratio = sum(a for a, _ in work) / sum(b for _, b in work)
    assert low < ratio < high < 1 and interval(work) == (low, high)
