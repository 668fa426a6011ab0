"""Rewards against slow definitions, and that only the target itself earns 1."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.losses.rewards import REWARDS, cut, edit_reward, prefix_reward
from engine.monitors import token_accuracy
from engine.recipe.sections import KnobsRecipe
from tests.engine.losses.test_tokens import edit_distance

END = 0
TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=7)
ALL_REWARDS = pytest.mark.parametrize("name", REWARDS)


def test_a_recipe_may_name_every_reward():
    for name in REWARDS:
        assert KnobsRecipe(reward=name).reward == name


@ALL_REWARDS
@settings(deadline=None)
@given(tokens=TOKENS, target=TOKENS)
def test_a_reward_is_a_share(name, tokens, target):
    assert 0 <= REWARDS[name](tokens, target) <= 1
    assert REWARDS[name](target, target) == 1


@ALL_REWARDS
@settings(deadline=None)
@given(st.data())
def test_of_continuations_as_long_as_the_target_and_cut_at_their_end_only_the_target_earns_one(name, data):
    """Samples are drawn so. A longer one that begins with the whole target earns a full prefix and accuracy too."""
    target = data.draw(TOKENS)
    tokens = data.draw(st.one_of(st.lists(st.integers(0, 3), min_size=len(target), max_size=len(target)), TOKENS))
    tokens, target = cut(tokens[: len(target)], END), cut(target, END)
    assert (REWARDS[name](tokens, target) == 1) == (tokens == target)


@settings(deadline=None)
@given(TOKENS, TOKENS)
@example([1, 2], [1, 2])
@example([1, 2, 3], [1, 3, 3])
def test_the_prefix_reward_counts_to_the_first_error(tokens, target):
    right = max(n for n in range(len(target) + 1) if n <= len(tokens) and tokens[:n] == target[:n])
    assert prefix_reward(tokens, target) == right / len(target)


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_the_accuracy_reward_counts_right_positions(tokens, target):
    right = sum(t < len(tokens) and tokens[t] == target[t] for t in range(len(target)))
    assert token_accuracy(tokens, target) == right / len(target)


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_the_edit_reward_is_one_minus_the_share_of_edits(tokens, target):
    share = edit_distance(tokens, target) / max(len(tokens), len(target))
    assert edit_reward(tokens, target) == pytest.approx(1 - share)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=7))
def test_a_cut_keeps_the_first_end_and_nothing_after_it(tokens):
    kept = cut(tokens, END)
    assert kept == tokens[: len(kept)] and END not in kept[:-1]
    assert kept == tokens or kept[-1] == END


def test_a_model_without_an_end_cuts_nothing():
    assert cut([3, 0, 2], None) == [3, 0, 2]
