"""Which prefix is trained next, and when a stage ends: pure functions of a slot's place and of what was measured."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.curriculum import GROWTH, Lesson, Outcome, first_lesson, next_lesson
from engine.recipe import Recipe, load_recipe

T = 13
NUM_STEPS = 100


def outcome(is_exact: bool = False, clock: float = 0.0, accuracy: float = 0.0) -> Outcome:
    """What was measured at a clock; the share of the attempt that is spent goes with it."""
    return Outcome(is_exact, 1.0 if is_exact else accuracy, clock, clock / NUM_STEPS)


def growing(growth: str, *overrides: str) -> Recipe:
    return load_recipe(None, [f"curriculum.growth={growth}", *(f"curriculum.{value}" for value in overrides)])


def staged(*stages: str) -> Recipe:
    return load_recipe(None, [f"stages=[{','.join(f'{{{stage}}}' for stage in stages)}]"])


def walk(recipe: Recipe, verdicts: list[bool], num_tokens: int = T) -> list[Lesson]:
    """The lessons of an attempt whose window is exact or not at clocks 1, 2, ..."""
    lessons = [first_lesson(recipe, num_tokens)]
    for clock, is_exact in enumerate(verdicts, start=1):
        lessons.append(next_lesson(lessons[-1], outcome(is_exact, float(clock)), recipe, num_tokens))
    return lessons


def windows(lessons: list[Lesson]) -> list[int]:
    return [lesson.window for lesson in lessons]


def test_without_growth_the_whole_text_is_trained_from_the_first_step_on():
    assert set(windows(walk(growing("none"), [False, True, False]))) == {T}


def test_one_token_is_added_each_time_the_prefix_is_exact():
    lessons = walk(growing("one_token", "first=2"), [False, True, False, False, True, True])
    assert windows(lessons) == [2, 2, 3, 3, 3, 4, 5]
    assert [lesson.solved for lesson in lessons] == [0, 0, 2, 2, 2, 3, 4]
    assert [lesson.opened for lesson in lessons] == [0, 0, 2, 2, 2, 5, 6]


def test_a_geometric_prefix_grows_by_its_factor_rounded_up_and_no_further_than_the_text():
    assert windows(walk(growing("geometric", "factor=1.5", "first=2"), [True, True, False, True, True, True])) == [
        2, 3, 5, 5, 8, 12, 13,
    ]  # fmt: skip


def test_blocks_are_added_once_the_prefix_is_exact_from_the_first_one_on():
    lessons = walk(growing("block", "block=5"), [False, True, True, False, True])
    assert windows(lessons) == [5, 5, 10, 13, 13, 13]
    assert windows(walk(growing("block"), [True])) == [T, T], "a text shorter than a block is one"


def test_the_smallest_factor_still_adds_a_token():
    assert windows(walk(growing("geometric", "factor=1.0001"), [True] * 3)) == [1, 2, 3, 4]


def test_bisection_starts_whole_halves_the_way_after_its_patience_and_goes_for_the_whole_when_exact():
    recipe = growing("bisect", "patience=2")
    lessons = walk(recipe, [False] * 4 + [True] + [False] * 4)
    assert windows(lessons) == [13, 13, 7, 7, 4, 13, 13, 9, 9, 7]
    assert [lesson.solved for lesson in lessons] == [0] * 5 + [4] * 5


def test_bisection_ends_one_token_beyond_what_is_solved():
    lessons = walk(growing("bisect", "patience=1"), [False] * 11)
    assert windows(lessons)[-1] == 1 and lessons[-1].solved == 0
    assert walk(growing("bisect", "patience=1"), [True, *[False] * 5])[-1] == Lesson(T, solved=T, opened=1.0)


@pytest.mark.parametrize("growth", ["one_token", "geometric"])
def test_a_first_prefix_longer_than_the_text_is_the_text(growth):
    assert first_lesson(growing(growth, "first=99"), T) == Lesson(T)


curricula = st.fixed_dictionaries({
    "growth": st.sampled_from(sorted(GROWTH)),
    "first": st.integers(1, 20),
    "factor": st.floats(1.01, 4.0),
    "patience": st.integers(1, 5),
})  # fmt: skip


@given(curricula, st.integers(1, 40), st.lists(st.booleans(), max_size=60))
def test_a_window_is_never_below_what_is_solved_and_only_bisection_shrinks_it(curriculum, num_tokens, verdicts):
    recipe = Recipe.model_validate({"curriculum": curriculum})
    lessons = walk(recipe, verdicts, num_tokens)
    for lesson in lessons:
        assert 0 <= lesson.solved <= lesson.window and 1 <= lesson.window <= num_tokens
    for (before, after), is_exact in zip(pairwise(lessons), verdicts, strict=True):
        assert after.solved == (before.window if is_exact and recipe.curriculum.growth != "none" else before.solved)
        if is_exact:
            assert after.window > before.window or after.window == num_tokens
        if after.window < before.window:
            assert recipe.curriculum.growth == "bisect" and not is_exact and after.window > after.solved
            assert after.opened - before.opened >= recipe.curriculum.patience


@given(curricula, st.integers(1, 40))
def test_an_attempt_that_is_always_exact_reaches_the_whole_text(curriculum, num_tokens):
    recipe = Recipe.model_validate({"curriculum": curriculum})
    assert walk(recipe, [True] * num_tokens, num_tokens)[-1].window == num_tokens


@given(curricula, st.integers(1, 40), st.integers(0, 40))
def test_an_attempt_that_is_held_up_at_a_length_goes_on_when_it_is_not(curriculum, num_tokens, limit):
    recipe = Recipe.model_validate({"curriculum": curriculum})
    lesson = first_lesson(recipe, num_tokens)
    for clock in range(150):
        reach = limit if clock < 100 else num_tokens
        lesson = next_lesson(lesson, outcome(lesson.window <= reach, float(clock)), recipe, num_tokens)
    assert lesson.window == num_tokens


HALVES = ("until=0.5,length_frac=0.5", "until=1.0")


def test_a_stage_trains_its_share_of_the_text_rounded_up():
    lengths = [0.01, 0.5, 0.51, 1.0]
    recipes = [staged(f"until=0.5,length_frac={length}", "until=1.0") for length in lengths]
    assert [first_lesson(recipe, T).window for recipe in recipes] == [1, 7, 7, 13]
    assert first_lesson(staged("until=0.5,length_frac=0.07", "until=1.0"), 100).window == 7  # not 8: 7.000000000000001


def test_a_stage_ends_at_its_share_of_the_attempt():
    recipe = staged(*HALVES)
    lesson = first_lesson(recipe, T)
    assert next_lesson(lesson, outcome(True, 49.9), recipe, T) == lesson
    second = next_lesson(lesson, outcome(False, 50.0), recipe, T)
    assert second == Lesson(T, stage=1, opened=50.0)
    assert next_lesson(second, outcome(True, 100.0), recipe, T) == second, "the last stage does not end"


@pytest.mark.parametrize(
    ("gate", "enough", "too_little"),
    [
        ("gate='exact'", outcome(True), outcome(False, accuracy=0.99)),
        ("gate='accuracy',gate_accuracy=0.75", outcome(False, accuracy=0.75), outcome(False, accuracy=0.74)),
    ],
)
def test_a_gate_ends_its_stage_early(gate, enough, too_little):
    recipe = staged(f"until=0.5,length_frac=0.5,{gate}", "until=1.0")
    lesson = first_lesson(recipe, T)
    assert next_lesson(lesson, replace(enough, clock=3.0, progress=0.03), recipe, T).stage == 1
    assert next_lesson(lesson, replace(too_little, clock=3.0, progress=0.03), recipe, T) == lesson
    assert next_lesson(lesson, replace(too_little, clock=50.0, progress=0.5), recipe, T).stage == 1


def test_a_gate_opens_one_stage_at_a_time():
    recipe = staged(*(f"until={until},length_frac=0.25,gate='exact'" for until in (0.25, 0.5, 0.75)), "until=1.0")
    lesson = first_lesson(recipe, T)
    for stage in (1, 2, 3, 3):
        lesson = next_lesson(lesson, outcome(True), recipe, T)
        assert lesson.stage == stage


def test_progress_that_jumps_skips_stages():
    recipe = staged(*(f"until={until},length_frac={until}" for until in (0.25, 0.5, 0.75)), "until=1.0")
    lesson = first_lesson(recipe, T)
    assert next_lesson(lesson, outcome(False, 60.0), recipe, T) == Lesson(10, stage=2, opened=60.0)
    assert next_lesson(lesson, outcome(False, 100.0), recipe, T) == Lesson(T, stage=3, opened=100.0)
    assert next_lesson(lesson, outcome(False, 0.0), recipe, T) == lesson


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=30))
def test_stages_never_go_back(moments):
    recipe = staged(*(f"until={until},length_frac={until},gate='exact'" for until in (0.25, 0.5)), "until=1.0")
    lesson, lessons = first_lesson(recipe, T), []
    for is_exact, progress in moments:
        lesson = next_lesson(lesson, outcome(is_exact, progress * NUM_STEPS), recipe, T)
        lessons.append(lesson)
    assert [lesson.stage for lesson in lessons] == sorted(lesson.stage for lesson in lessons)
    assert all(lesson.window == (4, 7, T)[lesson.stage] for lesson in lessons)


def test_a_stage_ends_once_no_more_positions_come_right_for_as_long_as_its_patience():
    recipe = staged('until=0.9, gate="stalled", patience=5', 'until=0.95, gate="stalled", patience=2', "until=1.0")
    shares = {0: 0, 1: 3, 3: 5, 4: 4, 7: 6, 8: 6, 11: 2, 12: 6, 13: 9}
    lesson, stages = first_lesson(recipe, T), []
    for clock in range(16):
        right = shares.get(clock, 0)
        lesson = next_lesson(lesson, outcome(False, float(clock), right / T), recipe, T)
        stages.append(lesson.stage)
    assert stages == [0] * 12 + [1] * 3 + [2], (
        "rises at 1, 3 and 7 and stalls at 12; the next rises at 13 and stalls at 15"
    )


def test_a_stalled_stage_ends_in_time_even_while_it_makes_progress():
    recipe = staged('until=0.03, gate="stalled", patience=50', "until=1.0")
    lesson = first_lesson(recipe, T)
    for clock in range(4):
        lesson = next_lesson(lesson, outcome(False, float(clock), clock / T), recipe, T)
    assert lesson.stage == 1
