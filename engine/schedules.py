"""Schedules: closures from a step to a value, and the recipe entries that ask for them.

Owns: the shape of a value over an attempt. Must not know: what the value is used for.

A step may be fractional: where an attempt is bounded by positions instead of steps, its clock runs in parts of a step.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from engine.strict import Strict

Schedule = Callable[[float], float]


def constant_schedule(value: float) -> Schedule:
    """`value` at every step."""
    return lambda step: value


def cosine_schedule(start: float, end: float, num_steps: int) -> Schedule:
    """`end + (start - end) * (1 + cos(pi * step / num_steps)) / 2`, then `end`.

    Raises:
        ValueError: num_steps < 1.
    """
    _require_steps(num_steps)
    return lambda step: end + (start - end) * (1 + math.cos(math.pi * min(step / num_steps, 1.0))) / 2


def linear_schedule(start: float, end: float, num_steps: int) -> Schedule:
    """A straight line from `start` at step 0 to `end` at `num_steps`, then `end`.

    The decay `max(e_min, k - c * i)` of Bengio et al. 2015, 1506.03099, with k = start, e_min = end and
    c = (start - end) / num_steps.

    Raises:
        ValueError: num_steps < 1.
    """
    _require_steps(num_steps)
    return lambda step: start + (end - start) * min(step / num_steps, 1.0)


def exponential_schedule(base: float, floor: float = 0.0) -> Schedule:
    """`max(floor, base ** step)`. Source: Bengio et al. 2015, 1506.03099, section 2.4.

    Raises:
        ValueError: base outside (0, 1).
    """
    if not 0 < base < 1:
        raise ValueError(f"base = {base}: must lie between 0 and 1, or the value does not decay")
    return lambda step: max(floor, base**step)


def inverse_sigmoid_schedule(k: float, floor: float = 0.0) -> Schedule:
    """`max(floor, k / (k + exp(step / k)))`. Source: Bengio et al. 2015, 1506.03099, section 2.4.

    Raises:
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"k = {k}: must be at least 1 (15 to 25 falls to a half within 40 to 80 steps)")
    # Written with exp of a negative number, so that late steps do not overflow.
    return lambda step: max(floor, k * math.exp(-step / k) / (k * math.exp(-step / k) + 1))


def logistic_schedule(start: float, end: float, midpoint: float, steepness: float) -> Schedule:
    """`end + (start - end) / (1 + exp(steepness * (step - midpoint)))`: half-way at `midpoint`.

    Raises:
        ValueError: steepness <= 0 or midpoint < 0.
    """
    if steepness <= 0:
        raise ValueError(f"steepness = {steepness}: must be > 0; swap start and end to turn the curve round")
    if midpoint < 0:
        raise ValueError(f"midpoint = {midpoint}: must be a step, 0 or later")
    return lambda step: end + (start - end) * _sigmoid(-steepness * (step - midpoint))


def piecewise_schedule(boundaries: tuple[float, ...], pieces: tuple[Schedule, ...]) -> Schedule:
    """`pieces[i]`, counting from its own first step, between `boundaries[i - 1]` and `boundaries[i]`.

    Raises:
        ValueError: boundaries that do not rise, or not one piece more than boundaries.
    """
    if len(pieces) != len(boundaries) + 1:
        raise ValueError(f"{len(pieces)} pieces for {len(boundaries)} boundaries: there must be one piece more")
    if any(b <= a for a, b in zip((0, *boundaries), boundaries, strict=False)):
        raise ValueError(f"boundaries = {list(boundaries)}: must be > 0 and rise")
    starts = (0, *boundaries)

    def value(step: float) -> float:
        piece = sum(step >= boundary for boundary in boundaries)
        return pieces[piece](step - starts[piece])

    return value


DECAYS = ("constant", "cosine", "linear")


@cache
def decay_schedule(name: str, start: float, end: float, num_steps: int) -> Schedule:
    """A decay by name, one of `DECAYS`."""
    if name == "constant":
        return constant_schedule(start)
    return {"cosine": cosine_schedule, "linear": linear_schedule}[name](start, end, num_steps)


Steps = Annotated[int, Field(le=1_000_000)] | Literal["attempt"]
"""A schedule's length: as many steps, or the attempt's."""


class _Entry(Strict, ABC):
    def model_post_init(self, _) -> None:
        self.build(1)

    @abstractmethod
    def build(self, attempt_steps: int) -> Schedule:
        """The closure; `attempt_steps` is the length of schedules that span the attempt."""


class Cosine(_Entry):
    """Half a cosine wave; over the whole attempt unless `num_steps` says otherwise."""

    kind: Literal["cosine"]
    start: float
    end: float
    num_steps: Steps = "attempt"

    def build(self, attempt_steps: int) -> Schedule:
        return cosine_schedule(self.start, self.end, attempt_steps if self.num_steps == "attempt" else self.num_steps)


class Linear(_Entry):
    """A straight line; over the whole attempt unless `num_steps` says otherwise."""

    kind: Literal["linear"]
    start: float
    end: float
    num_steps: Steps = "attempt"

    def build(self, attempt_steps: int) -> Schedule:
        return linear_schedule(self.start, self.end, attempt_steps if self.num_steps == "attempt" else self.num_steps)


class Exponential(_Entry):
    kind: Literal["exponential"]
    base: float
    floor: float = 0.2

    def build(self, attempt_steps: int) -> Schedule:
        return exponential_schedule(self.base, self.floor)


class InverseSigmoid(_Entry):
    kind: Literal["inverse_sigmoid"]
    k: float = 20.0
    floor: float = 0.2

    def build(self, attempt_steps: int) -> Schedule:
        return inverse_sigmoid_schedule(self.k, self.floor)


class Logistic(_Entry):
    """A sigmoid between two values; `midpoint` and `steepness` in steps."""

    kind: Literal["logistic"]
    start: float
    end: float
    midpoint: float
    steepness: float

    def build(self, attempt_steps: int) -> Schedule:
        return logistic_schedule(self.start, self.end, self.midpoint, self.steepness)


class Piecewise(_Entry):
    """Several schedules one after the other; `boundaries` in steps."""

    kind: Literal["piecewise"]
    boundaries: tuple[float, ...]
    pieces: tuple["Value", ...]

    def build(self, attempt_steps: int) -> Schedule:
        return piecewise_schedule(self.boundaries, tuple(build_schedule(piece, attempt_steps) for piece in self.pieces))


Value = (
    float
    | Annotated[Cosine | Linear | Exponential | InverseSigmoid | Logistic | Piecewise, Field(discriminator="kind")]
)
"""A number, or a schedule: `{kind = "cosine", start = 1.0, end = 0.5}` in TOML."""

Piecewise.model_rebuild()


def build_schedule(value: Value, attempt_steps: int) -> Schedule:
    """The closure a recipe's value asks for; `attempt_steps` is the length of those that span the attempt."""
    return value.build(attempt_steps) if isinstance(value, _Entry) else constant_schedule(value)


def _require_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps = {num_steps}: must be at least 1")


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
