"""The curriculum: which prefix of a text is trained next, under which stage, and when a slot moves on.

Owns: stages, growth, gates, as pure functions of a slot's place in them. Must not know: tensors, losses, slots.

T target tokens; a window is the prefix that is trained. A window shorter than T certifies nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.recipe import Recipe
from engine.recipe.sections import StageRecipe


@dataclass(frozen=True)
class Lesson:
    """A slot's place in its curriculum; all there is to resume from.

    Attributes:
        window: tokens trained, 1 to T.
        stage: index into the recipe's stages.
        solved: longest prefix that has been exact.
        opened: clock at which this window was opened.
        most_right: most positions of this window that were right at once; watched where a stage may stall.
        rose: clock at which they were.
    """

    window: int
    stage: int = 0
    solved: int = 0
    opened: float = 0.0
    most_right: int = 0
    rose: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What the last measurement said about the window.

    Attributes:
        is_exact: every position right.
        accuracy: share of right positions.
        clock: the slot's clock, in steps.
        progress: share of the attempt that is spent.
    """

    is_exact: bool
    accuracy: float
    clock: float
    progress: float


def first_lesson(recipe: Recipe, num_tokens: int) -> Lesson:
    """Where an attempt begins."""
    if recipe.lessons:
        return Lesson(_stage_window(recipe.lessons[0], num_tokens))
    if recipe.curriculum.growth in ("none", "bisect"):
        return Lesson(num_tokens)
    if recipe.curriculum.growth == "block":
        return Lesson(min(recipe.curriculum.block, num_tokens))
    return Lesson(min(recipe.curriculum.first, num_tokens))


def next_lesson(lesson: Lesson, outcome: Outcome, recipe: Recipe, num_tokens: int) -> Lesson:
    """The same lesson, or the one that follows."""
    if recipe.lessons:
        return _next_stage(lesson, outcome, recipe, num_tokens)
    window, solved = GROWTH[recipe.curriculum.growth](lesson, outcome, recipe, num_tokens)
    if (window, solved) == (lesson.window, lesson.solved):
        return lesson
    return replace(lesson, window=window, solved=solved, opened=outcome.clock)


Gate = Callable[[StageRecipe, Lesson, Outcome], bool]


def _has_stalled(stage: StageRecipe, lesson: Lesson, outcome: Outcome) -> bool:
    return outcome.clock - max(lesson.opened, lesson.rose) >= stage.patience


GATES: dict[str, Gate] = {
    "time": lambda stage, lesson, outcome: False,
    "exact": lambda stage, lesson, outcome: outcome.is_exact,
    "accuracy": lambda stage, lesson, outcome: outcome.accuracy >= stage.gate_accuracy,
    "stalled": _has_stalled,
    "settled": lambda stage, lesson, outcome: outcome.is_exact or _has_stalled(stage, lesson, outcome),
}
"""What ends a stage before its share of the attempt is spent."""


def _next_stage(lesson: Lesson, outcome: Outcome, recipe: Recipe, num_tokens: int) -> Lesson:
    number = lesson.stage
    last = len(recipe.lessons) - 1
    lesson = _watched(lesson, outcome) if recipe.lessons[number].gate in ("stalled", "settled") else lesson
    is_early = GATES[recipe.lessons[number].gate](recipe.lessons[number], lesson, outcome)
    while number < last and (outcome.progress >= recipe.lessons[number].until or is_early):
        number, is_early = number + 1, False
    if number == lesson.stage:
        return lesson
    window = _stage_window(recipe.lessons[number], num_tokens)
    return Lesson(window, stage=number, solved=lesson.solved, opened=outcome.clock)


def _watched(lesson: Lesson, outcome: Outcome) -> Lesson:
    num_right = round(outcome.accuracy * lesson.window)
    return replace(lesson, most_right=num_right, rose=outcome.clock) if num_right > lesson.most_right else lesson


def _stage_window(stage: StageRecipe, num_tokens: int) -> int:
    # Less a hair, so that 0.07 of 100 tokens is 7 and not 8.
    return max(1, math.ceil(stage.length_frac * num_tokens - 1e-9))


Growth = Callable[[Lesson, Outcome, Recipe, int], tuple[int, int]]


def _whole(lesson: Lesson, outcome: Outcome, recipe: Recipe, num_tokens: int) -> tuple[int, int]:
    return num_tokens, lesson.solved


def _one_token(lesson: Lesson, outcome: Outcome, recipe: Recipe, num_tokens: int) -> tuple[int, int]:
    if not outcome.is_exact:
        return lesson.window, lesson.solved
    return min(num_tokens, lesson.window + 1), lesson.window


def _block(lesson: Lesson, outcome: Outcome, recipe: Recipe, num_tokens: int) -> tuple[int, int]:
    if not outcome.is_exact:
        return lesson.window, lesson.solved
    return min(num_tokens, lesson.window + recipe.curriculum.block), lesson.window


def _geometric(lesson: Lesson, outcome: Outcome, recipe: Recipe, num_tokens: int) -> tuple[int, int]:
    if not outcome.is_exact:
        return lesson.window, lesson.solved
    return min(num_tokens, math.ceil(lesson.window * recipe.curriculum.factor)), lesson.window


def _bisect(lesson: Lesson, outcome: Outcome, recipe: Recipe, num_tokens: int) -> tuple[int, int]:
    if outcome.is_exact:
        return num_tokens, lesson.window
    has_waited = outcome.clock - lesson.opened >= recipe.curriculum.patience
    if has_waited and lesson.window - lesson.solved > 1:
        return (lesson.solved + lesson.window + 1) // 2, lesson.solved
    return lesson.window, lesson.solved


GROWTH: dict[str, Growth] = {
    "none": _whole,
    "one_token": _one_token,
    "block": _block,
    "geometric": _geometric,
    "bisect": _bisect,
}
"""The next window and the longest exact prefix: by one, by a block, by a factor, or the whole text and half the way on
failure.

Source: growth by one token and by blocks, Tarasov et al. 2026 (progressive cramming); the others: ours.
"""
