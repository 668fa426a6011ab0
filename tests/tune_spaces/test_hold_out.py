"""The winner against the base on texts of their own."""

import pytest

from tests.tune_spaces.made_up import outcome
from tune_spaces.hold_out import compare

IDS = [f"text {i}" for i in range(11)]


def side(costs, *, exact=True):
    return [outcome(id, cost, exact=exact) for id, cost in zip(IDS, costs, strict=True)]


def test_the_ratio_is_that_of_total_costs_and_lies_in_its_interval():
    ours, theirs = side([10.0] * 10 + [30]), side([20.0] * 11)
    found = compare(ours, theirs)
    assert found.ratio == pytest.approx(130 / 220)
    assert found.low < found.ratio < found.high < 1
    assert found.is_win and "0.59 times the base's cost" in found.figures and "11 against 11" in found.figures


def test_equal_recipes_are_no_win_and_differ_by_nothing():
    found = compare(side(range(1, 12)), side(range(1, 12)))
    assert (found.ratio, found.low, found.high) == (1, 1, 1)
    assert not found.is_win


def test_a_cheaper_winner_that_solves_fewer_texts_loses():
    assert not compare(side([1.0] * 11, exact=False), side([2.0] * 11)).is_win


def test_a_lucky_mean_is_no_win():
    found = compare(side([1.0, *[21] * 10]), side([30.0, *[20] * 10]))
    assert found.ratio < 1 < found.high and not found.is_win


def prefixes(*tokens):
    return [outcome(id, 99.0, exact=False, prefix_tokens=number) for id, number in zip(IDS, tokens, strict=False)]


def test_of_capacity_the_longer_prefix_wins_if_luck_does_not_explain_it():
    found = compare(prefixes(*[12] * 10, 16), prefixes(*[8] * 11), "capacity")
    assert found.ratio == pytest.approx(136 / 88) and found.low > 1 and found.is_win
    assert "1.55 times the base's exact prefix" in found.figures
    assert not compare(prefixes(*[8] * 11), prefixes(*[12] * 10, 16), "capacity").is_win
    assert not compare(prefixes(*[7] * 10, 60), prefixes(*[8] * 11), "capacity").is_win, "one text made it"
    assert compare(prefixes(*[1] * 11), prefixes(*[0] * 11), "capacity").ratio == float("inf")
    assert compare(prefixes(*[0] * 11), prefixes(*[0] * 11), "capacity").ratio == 1


def test_the_interval_covers_what_it_says():
    """Of 200 samples from one distribution about 19 in 20 intervals hold the true ratio, which is 1."""
    import numpy as np

    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = compare(side(rng.gamma(4, 5, 11)), side(rng.gamma(4, 5, 11)))
        covered += found.low <= 1 <= found.high
    assert 170 <= covered <= 199


def test_texts_must_be_paired():
    with pytest.raises(AssertionError, match="paired"):
        compare(side([1.0] * 11), side([1.0] * 11)[::-1])
