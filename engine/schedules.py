"""Schedules: closures from a step to a value.

Owns: the shape of a value over an attempt. Must not know: what the value is used for.
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant_schedule(value: float) -> Schedule:
    """`value` at every step."""
    return lambda step: value


def cosine_schedule(start: float, end: float, num_steps: int) -> Schedule:
    """`end + (start - end) * (1 + cos(pi * step / num_steps)) / 2`, then `end`.

    Raises:
        ValueError: num_steps < 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps = {num_steps}: must be at least 1")
    return lambda step: end + (start - end) * (1 + math.cos(math.pi * min(step / num_steps, 1.0))) / 2


def linear_schedule(start: float, end: float, num_steps: int) -> Schedule:
    """A straight line from `start` at step 0 to `end` at `num_steps`, then `end`.

    Raises:
        ValueError: num_steps < 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps = {num_steps}: must be at least 1")
    return lambda step: start + (end - start) * min(step / num_steps, 1.0)


DECAYS = ("constant", "cosine", "linear")


def decay_schedule(name: str, start: float, end: float, num_steps: int) -> Schedule:
    """A decay by name, one of `DECAYS`."""
    if name == "constant":
        return constant_schedule(start)
    return {"cosine": cosine_schedule, "linear": linear_schedule}[name](start, end, num_steps)
