"""Spaces declared in TOML: parameters by recipe key, each with its range and when it applies.

Owns: the form of a declaration, and drawing by it. Must not know: files, which keys and values a recipe takes.

    [parameters]
    optim.lr = { kind = "float", low = 0.02, high = 20.0, log = true }
    loss.name = { kind = "choice", choices = ["violation_mix", "cross_entropy"] }
    loss.margin = { kind = "float", low = 0.5, high = 4.0, when = { loss.name = ["violation_mix"] } }
    terms.simctg = { kind = "float", low = 0.01, high = 1.0, log = true, optional = true }
    knobs.contrast_rho = { kind = "float", low = 0.0, high = 1.0, when = { terms.simctg.on = [true] } }
"""

from abc import ABC, abstractmethod
from graphlib import TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from engine.strict import Strict
from tune_spaces.spaces.draw import Draw

Scalar = bool | int | float | str
Condition = dict[str, tuple[Scalar, ...]]
"""Keys with the values they may have; all must have one of theirs. `KEY.on` is whether KEY is not its default."""


class Parameter(Strict, ABC):
    """What all parameters may say."""

    optional: bool = Field(default=False, description="whether the key's default is a further choice, as a switch")
    when: tuple[Condition, ...] = Field(default=(), description="applies if one of these holds; none: always")

    def applies(self, draw: Draw) -> bool:
        """Whether the recipe so far meets a condition."""
        return not self.when or any(
            all(_state(draw, key) in values for key, values in condition.items()) for condition in self.when
        )

    @abstractmethod
    def examples(self) -> list[Any]:
        """Values that the recipe must take for it to take them all."""

    @abstractmethod
    def suggest(self, draw: Draw, key: str) -> None:
        """Draw it."""


class _Range(Parameter):
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False

    def model_post_init(self, _: Any) -> None:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g}, high = {self.high:g}: low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g}: must be > 0 where log is true")

    def examples(self) -> list[Any]:
        """Both ends, and a value between that is nothing in particular."""
        return [self.low, self.high, self.low + (self.high - self.low) * 0.382]


class Number(_Range):
    """A real number."""

    kind: Literal["float"]

    def suggest(self, draw: Draw, key: str) -> None:
        draw.number(key, self.low, self.high, log=self.log)


class Scheduled(_Range):
    """A number or a schedule within the range."""

    kind: Literal["schedule"]

    def examples(self) -> list[Any]:
        return [{"kind": "linear", "start": value, "end": value} for value in super().examples()]

    def suggest(self, draw: Draw, key: str) -> None:
        draw.schedule(key, self.low, self.high, log=self.log)


class Integer(_Range):
    """A whole number."""

    kind: Literal["int"]
    low: int  # pyright: ignore[reportIncompatibleVariableOverride]
    high: int  # pyright: ignore[reportIncompatibleVariableOverride]
    step: int = Field(default=1, ge=1)

    def model_post_init(self, _: Any) -> None:
        super().model_post_init(_)
        if (self.high - self.low) % self.step or (self.log and self.step > 1):
            raise ValueError(f"step = {self.step}: must lead from low to high, and be 1 where log is true")

    def examples(self) -> list[Any]:
        return [self.low, self.high]

    def suggest(self, draw: Draw, key: str) -> None:
        draw.integer(key, self.low, self.high, log=self.log, step=self.step)


class Choice(Parameter):
    """One of several values."""

    kind: Literal["choice"]
    choices: tuple[Scalar, ...] = Field(min_length=2, max_length=64)

    def examples(self) -> list[Any]:
        return list(self.choices)

    def suggest(self, draw: Draw, key: str) -> None:
        draw.choice(key, self.choices)


KINDS = {"float": Number, "int": Integer, "choice": Choice, "schedule": Scheduled}


class Declared(Strict):
    """A space as its file says it."""

    description: str = Field(default="", description="for people")
    parameters: dict[str, Annotated[Number | Integer | Choice | Scheduled, Field(discriminator="kind")]] = Field(
        min_length=1, max_length=64
    )

    def suggest(self, draw: Draw) -> None:
        """Every parameter that applies, those of conditions first."""
        for key in self.order():
            parameter = self.parameters[key]
            if parameter.applies(draw) and (not parameter.optional or draw.switch(key)):
                parameter.suggest(draw, key)

    def order(self) -> list[str]:
        """Keys so that each comes after those it depends on.

        Raises:
            CycleError: conditions that wait for each other.
        """
        needs = {
            key: [without_switch(name) for condition in parameter.when for name in condition]
            for key, parameter in self.parameters.items()
        }
        return [key for key in TopologicalSorter(needs).static_order() if key in self.parameters]


SWITCH = ".on"


def without_switch(name: str) -> str:
    """The recipe key that a condition looks at."""
    return name.removesuffix(SWITCH)


def _state(draw: Draw, name: str) -> Any:
    return draw.is_on(without_switch(name)) if name.endswith(SWITCH) else draw[name]
