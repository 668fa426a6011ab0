"""Spaces declared in TOML: parameters by recipe key, each with its range and when it applies.

Owns: the form of a declaration, and drawing by it. Must not know: files, which keys and values a recipe takes.

    [parameters]
    optim.lr = { kind = "float", low = 0.02, high = 20.0, log = true }
    loss.name = { kind = "choice", choices = ["violation_mix", "cross_entropy"] }
    loss.margin = { kind = "float", low = 0.5, high = 4.0, when = { loss.name = ["violation_mix"] } }
    terms.simctg = { kind = "float", low = 0.01, high = 1.0, log = true, optional = true }
    knobs.contrast_rho = { kind = "float", low = 0.0, high = 1.0, when = { terms.simctg.on = [true] } }
    stages.count = { kind = "int", low = 2, high = 3 }
    stages.0.set.terms.simctg = { kind = "schedule", low = 0.0, high = 1.0, shapes = ["linear"] }
"""

from abc import ABC, abstractmethod
from graphlib import TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from engine.recipe import Recipe
from engine.strict import Strict
from tune_spaces.spaces.draw import FROM_ONE, NEW_STAGE, SHAPES, Draw
from tune_spaces.spaces.stages import put_in_order, spread

COUNT = "stages.count"
"""How many stages a recipe has; the parameters of a stage that it has not are left out."""

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
    shapes: tuple[str, ...] = Field(default=(), description="those that may be; none: all that fit the range")
    parts: dict[str, tuple[FiniteFloat, FiniteFloat]] = Field(
        default_factory=dict, description="ranges of their own for parts of a shape: start, end, midpoint, ..."
    )

    def model_post_init(self, _: Any) -> None:
        super().model_post_init(_)
        fitting = SHAPES | (FROM_ONE if self.high == 1 else {})
        for shape in self.shapes:
            if shape not in fitting:
                raise ValueError(f"shapes = {shape!r}: must be of {', '.join(fitting)} where high is {self.high:g}")
        names = {part for shape in self.shapes or fitting for part in fitting[shape]}
        for part, (low, high) in self.parts.items():
            if part not in names:
                raise ValueError(f"parts.{part}: must be of {', '.join(sorted(names))} for these shapes")
            if not low < high:
                raise ValueError(f"parts.{part} = {low:g}, {high:g}: low must be below high")

    def examples(self) -> list[Any]:
        """Constant schedules at the ends, those of `start` included."""
        values = [*super().examples(), *self.parts.get("start", ()), *self.parts.get("end", ())]
        return [{"kind": "linear", "start": value, "end": value} for value in values]

    def suggest(self, draw: Draw, key: str) -> None:
        draw.schedule(key, self.low, self.high, log=self.log, shapes=self.shapes, parts=self.parts)


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
            if key == COUNT:
                self._suggest_stages(draw)
            elif stage_of(key) >= len(draw["stages"]):
                continue
            elif parameter.applies(draw) and (not parameter.optional or draw.switch(key)):
                parameter.suggest(draw, key)
        if any(stage_of(key) >= 0 for key in self.parameters):
            put_in_order(draw)

    def refusal(self, base: Recipe) -> str | None:
        """Why the space cannot change a recipe."""
        missing = [key for key in self.parameters if stage_of(key) >= len(base.stages)]
        if COUNT in self.parameters or not missing:
            return None
        return f"{missing[0]}: the recipe has {len(base.stages)} stages; add {COUNT} here, or stages to the recipe"

    def _suggest_stages(self, draw: Draw) -> None:
        counted, num_before = self.parameters[COUNT], len(draw["stages"])
        assert isinstance(counted, Integer)
        draw.count("stages", counted.low, counted.high, new=NEW_STAGE, step=counted.step)
        spread(draw, num_before)
        if "curriculum.growth" not in self.parameters:
            draw.set("curriculum.growth", "none")  # both say which prefix is trained

    def order(self) -> list[str]:
        """Keys so that each comes after those it depends on.

        Raises:
            CycleError: conditions that wait for each other.
        """
        needs = {
            key: [without_switch(name) for condition in parameter.when for name in condition]
            for key, parameter in self.parameters.items()
        }
        for key in needs:
            if stage_of(key) >= 0:
                needs[key].append(COUNT)
        return [key for key in TopologicalSorter(needs).static_order() if key in self.parameters]


def stage_of(key: str) -> int:
    """The number of the stage that a key lies in; -1 outside stages, `stages.count` included."""
    section, _, rest = key.partition(".")
    number = rest.partition(".")[0]
    return int(number) if section == "stages" and number.isdigit() else -1


SWITCH = ".on"


def without_switch(name: str) -> str:
    """The recipe key that a condition looks at."""
    return name.removesuffix(SWITCH)


def _state(draw: Draw, name: str) -> Any:
    """What a condition looks at; None in a stage that the recipe has not."""
    if stage_of(name) >= len(draw["stages"]):
        return None
    return draw.is_on(without_switch(name)) if name.endswith(SWITCH) else draw[name]
