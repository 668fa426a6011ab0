"""A draw: a base recipe's values, changed one by one by what a trial suggests.

Owns: parameters' names, how a parameter becomes a recipe's value, the parameter nearest to what a recipe has.
Must not know: which parameters a space has, studies, samplers.

A parameter is called by the recipe's dotted key. Those that say whether, how many or in which shape have a name of
their own below a key: `KEY.on` (is it anything but the default?), `KEY.count`, `KEY.kind`, `KEY.start`, ...
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter

from engine.recipe import Recipe
from engine.recipe.sections import StageRecipe
from engine.schedules import Value, build_schedule

DEFAULTS = Recipe().model_dump(mode="json")
"""What a key is while its switch is off."""

NEW_STAGE = StageRecipe(until=1).model_dump(mode="json")
"""A stage that changes nothing of the recipe around it."""

SHAPES: dict[str, tuple[str, ...]] = {
    "constant": (),
    "linear": ("start", "end"),
    "cosine": ("start", "end"),
    "logistic": ("start", "end", "midpoint", "steepness"),
    "piecewise": ("boundaries.0", "pieces.0", "pieces.1"),
}
"""Parts of the schedules that may lie in any range."""

FROM_ONE: dict[str, tuple[str, ...]] = {"exponential": ("base", "floor"), "inverse_sigmoid": ("k", "floor")}
"""Those of the schedules that begin at 1, for ranges that end there."""

Range = tuple[float, float, bool]
"""Low, high, whether it is log-uniform."""

Choice = TypeVar("Choice", bound=str | float | bool)


class Suggests(Protocol):
    """What a draw asks of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class Draw:
    """One trial's values.

    Args:
        trial: answers; None lets the base answer with what it has, or the nearest that is allowed.
        base: what stays as it is unless a parameter changes it.

    Attributes:
        values: the recipe so far, nested.
        params: what was suggested, by parameter.
    """

    def __init__(self, trial: Suggests | None, base: Recipe):
        self._trial = trial
        self.values: dict[str, Any] = base.model_dump(mode="json")
        self.params: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        """The recipe's value so far; where a stage says nothing, the value outside stages."""
        try:
            return _at(self.values, key)
        except KeyError:
            return _at(self.values, _outside(key))

    def set(self, key: str, value: Any) -> None:
        """Give a key a value that is not searched."""
        *sections, last = key.split(".")
        place: Any = self.values
        for name in sections:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        place[last] = value

    def number(self, key: str, low: float, high: float, *, log: bool = False) -> float:
        """A float in [low, high], uniform or log-uniform."""
        if key == "loss.margin":  # a loss has to ask for the margin at which an attempt is done
            low, high = max(low, self["stop_margin"]), max(high, self["stop_margin"])
        self.set(key, value := self._float(key, (low, high, log), near=self[key]))
        return value

    def integer(self, key: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        """A whole number in [low, high]."""
        self.set(key, value := self._int(key, low, high, near=self[key], log=log, step=step))
        return value

    def choice(self, key: str, choices: Sequence[Choice]) -> Choice:
        """One of several values."""
        self.set(key, value := self._choice(key, choices, near=self[key]))
        return value

    def is_on(self, key: str) -> bool:
        """Whether a key is anything but its default."""
        return self[key] != _default(key)

    def switch(self, key: str) -> bool:
        """Whether a key is to be anything but its default; off puts it there, on leaves it to the next parameter."""
        is_on = self._choice(f"{key}.on", (False, True), near=self.is_on(key))
        if not is_on:
            self.set(key, _default(key))
        return is_on

    def weight(self, key: str, low: float, high: float, *, log: bool = True) -> None:
        """A number that may be off: the switch, then its size."""
        if self.switch(key):
            self.number(key, low, high, log=log)

    def one_of(self, name: str, section: str, keys: Sequence[str], low: float, high: float) -> None:
        """At most one of a section's weights, log-uniform: whether any (`NAME.on`), which (`NAME`), its size."""
        used = [key for key in keys if self.is_on(f"{section}.{key}")]
        sizes = {key: self[f"{section}.{key}"] for key in keys}
        for key in keys:
            self.set(f"{section}.{key}", DEFAULTS[section][key])
        if self._choice(f"{name}.on", (False, True), near=bool(used)):
            chosen = self._choice(name, keys, near=next(iter(used), keys[0]))
            self.set(f"{section}.{chosen}", sizes[chosen])
            self.number(f"{section}.{chosen}", low, high, log=True)

    def count(self, key: str, low: int, high: int, *, new: dict[str, Any], step: int = 1) -> int:
        """How many entries a list has; entries that are there stay, others begin as `new`."""
        number = self._int(f"{key}.count", low, high, near=len(self[key]), step=step)
        kept = self[key][:number]
        self.set(key, kept + [deepcopy(new) for _ in range(number - len(kept))])
        return number

    def schedule(
        self,
        key: str,
        low: float,
        high: float,
        *,
        log: bool = False,
        shapes: Sequence[str] = (),
        parts: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """A value within [low, high] over an attempt: constant, or of one of several shapes, whose parts are drawn.

        Args:
            shapes: those that may be; none are all that fit the range.
            parts: ranges of their own for some parts, by name.
        """
        has = self[key]
        fitting = SHAPES | (FROM_ONE if high == 1 else {})
        of_shapes = {name: fitting[name] for name in shapes or fitting}
        kind = self._choice(f"{key}.kind", tuple(of_shapes), near=has["kind"] if isinstance(has, dict) else "constant")
        if kind == "constant":
            self.number(key, low, high, log=log)
            return
        last = max(1.0, self["max_steps"] - 1)
        ranges: dict[str, Range] = {
            "midpoint": (0, last, False),
            "steepness": (0.003, 0.3, True),  # from a quarter of 500 steps to a dozen
            "boundaries.0": (1, last, False),
            "base": (0.9, 0.999, False),
            "k": (5, 100, True),  # 15 to 25 in the literature
        } | {part: (*ends, False) for part, ends in (parts or {}).items()}
        drawn = {
            part: self._float(f"{key}.{part}", ranges.get(part, (low, high, log)), near=_part(has, part))
            for part in of_shapes[kind]
        }
        self.set(key, {"kind": kind} | _with_lists(drawn))

    def _float(self, name: str, wide: Range, *, near: Any) -> float:
        low, high, log = wide
        if self._trial is None:
            value = min(max(_first(near), low), high)
        else:
            value = self._trial.suggest_float(name, low, high, log=log)
        self.params[name] = value
        return value

    def _int(self, name: str, low: int, high: int, *, near: Any, log: bool = False, step: int = 1) -> int:
        if self._trial is None:
            steps = round((min(max(_first(near), low), high) - low) / step)
            value = low + step * min(steps, (high - low) // step)
        else:
            value = self._trial.suggest_int(name, low, high, log=log, step=step)
        self.params[name] = value
        return value

    def _choice(self, name: str, choices: Sequence[Choice], *, near: Any) -> Choice:
        value = _nearest(near, choices) if self._trial is None else self._trial.suggest_categorical(name, choices)
        self.params[name] = value
        return value


def _at(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values[int(name)] if isinstance(values, list) else values[name]
    return values


def _default(key: str) -> Any:
    """What a key is unless something is said of it."""
    stage, _, field = key.partition(".")[2].partition(".")
    if key.startswith("stages.") and stage.isdigit() and not field.startswith("set."):
        return NEW_STAGE[field]
    return _at(DEFAULTS, _outside(key))


def _with_lists(parts: dict[str, float]) -> dict[str, Any]:
    """Parts of a schedule, with those that are numbered put into a list."""
    values: dict[str, Any] = {}
    for part, value in parts.items():
        name, _, number = part.partition(".")
        if number:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values


def _outside(key: str) -> str:
    """A key of what a stage changes, as it is called outside stages."""
    return key.split(".set.", 1)[-1]


def _part(value: Any, part: str) -> Any:
    """Part of a schedule; of one that has no such part, or of a number, the value it begins with."""
    try:
        return _at(value, part)
    except (KeyError, IndexError, TypeError):
        return value


def _first(value: Any) -> float:
    """A number, or what a schedule begins with; 0 for what is neither."""
    if isinstance(value, dict):
        return build_schedule(TypeAdapter(Value).validate_python(value), 1)(0.0)
    return value if isinstance(value, int | float) else 0.0


def _nearest(value: Any, choices: Sequence[Choice]) -> Choice:
    """The value if it is a choice, else the nearest number if it is one, else the first choice."""
    numbers = [choice for choice in choices if not isinstance(choice, str)]
    if value in choices:
        return choices[choices.index(value)]
    if numbers and isinstance(value, int | float):
        return min(numbers, key=lambda number: abs(number - value))
    return choices[0]
