"""Trials for the tests of spaces: dice, and shares that Hypothesis chooses.

Owns: what test_spaces and test_spaces_run share. Must not know: any space's parameters.
"""

import random
from collections.abc import Iterator
from itertools import cycle

from engine.recipe import Recipe
from tune_spaces.spaces import SPACES
from tune_spaces.spaces.space import DiceTrial

ALMOST_ONE = 1 - 2**-53
"""The largest share that `random` gives."""


class Shares(random.Random):
    """Gives these, over and over."""

    def __init__(self, shares: list[float]):
        super().__init__()
        self._shares = cycle(shares)

    def random(self) -> float:
        return next(self._shares)


def drawn(name: str, number: int, base: Recipe | None = None) -> Iterator[tuple[Recipe, set[str]]]:
    """Recipes of a space, the same ones every time, each with the names of what was suggested."""
    dice = random.Random(name)
    for _ in range(number):
        trial = DiceTrial(dice)
        recipe = SPACES[name].draw(trial, base or Recipe())
        yield recipe, {asked[0] for asked in trial.asked}
