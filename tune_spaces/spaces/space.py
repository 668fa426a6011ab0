"""A search space: recipes to draw, what tells it from others, where to begin.

Owns: what all spaces do alike; that every draw is a valid recipe. Must not know: which parameters there are, studies.
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from engine.recipe import Recipe
from engine.settings import SettingsError, complaint
from tune_spaces.spaces.draw import Draw, Suggests
from tune_spaces.spaces.rules import settle

NUM_TRACED = 500
"""Draws that a space is recognised by: enough to meet every condition, if not every combination of them."""

DIGITS = 6
"""Of drawn values that count, so that the last bit of a logarithm does not."""


@dataclass(frozen=True)
class Space:
    """Recipes that differ in what is searched.

    Attributes:
        name: one of `SPACES`, or a file.
        suggest: draws every parameter that applies.
        declared: the file's content in one form, where it was declared; "" where it is a function.
        refusal: why it cannot change a recipe, or None.
    """

    name: str
    suggest: Callable[[Draw], None]
    declared: str = ""
    refusal: Callable[[Recipe], str | None] = lambda base: None

    def draw(self, trial: Suggests, base: Recipe) -> Recipe:
        """The recipe a trial is to try; `base` gives everything that is not searched.

        Raises:
            SettingsError: this base and this draw contradict each other.
        """
        draw = self._filled(Draw(trial, base))
        try:
            return Recipe.model_validate(draw.values)
        except ValidationError as error:
            raise SettingsError(f"space {self.name} on this recipe: {complaint(error).line()}") from error

    def centre(self, base: Recipe) -> dict[str, Any]:
        """The parameters that give the base recipe again, or the nearest ones in the space.

        Raises:
            SettingsError: the space cannot change this recipe.
        """
        if (reason := self.refusal(base)) is not None:
            raise SettingsError(f"space {self.name}: {reason}")
        return self._filled(Draw(None, base)).params

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with parameters, ranges, conditions and what is made of them."""
        digest = hashlib.blake2b(self.declared.encode(), digest_size=8)
        dice = random.Random(0)
        for _ in range(NUM_TRACED):
            trial = DiceTrial(dice)
            draw = self._filled(Draw(trial, Recipe()))
            digest.update(json.dumps(_rounded([trial.asked, draw.values]), sort_keys=True).encode())
        return digest.hexdigest()

    def _filled(self, draw: Draw) -> Draw:
        self.suggest(draw)
        settle(draw)
        return draw


class DiceTrial:
    """A trial that throws dice, and remembers what it was asked.

    Args:
        dice: only its `random` is used, which is the same on every machine.
    """

    def __init__(self, dice: random.Random):
        self._dice = dice
        self.asked: list[Any] = []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append([name, low, high, log])
        share = self._dice.random()
        return low * math.exp(share * math.log(high / low)) if log else low + share * (high - low)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.asked.append([name, low, high, step, log])
        return low + step * int(self._dice.random() * ((high - low) // step + 1))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked.append([name, *choices])
        return choices[int(self._dice.random() * len(choices))]


def _rounded(values: Any) -> Any:
    if isinstance(values, float):
        return float(f"{values:.{DIGITS}g}")
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    return values
