"""Stages of a recipe that is being drawn: new ones, and their ends in order.

Owns: that drawn stages rise to the end of the attempt. Must not know: which of their values are searched.
"""

from tune_spaces.spaces.draw import Draw

SHORTEST = 0.01
"""Share of the attempt that a stage keeps whose end was drawn before that of the stage before it."""


def spread(draw: Draw, num_kept: int) -> None:
    """Give the stages after the first `num_kept` an end each, as if all were alike long."""
    number = len(draw["stages"])
    for stage in range(num_kept, number):
        draw.set(f"stages.{stage}.until", (stage + 1) / number)


def put_in_order(draw: Draw) -> None:
    """Ends that rise; the last stage trains the whole text and ends with the attempt."""
    last, end = len(draw["stages"]) - 1, 0.0
    for stage in range(last):
        latest = 1 - SHORTEST * (last - stage)
        end = min(max(draw[f"stages.{stage}.until"], end + SHORTEST), latest)
        draw.set(f"stages.{stage}.until", end)
    if last >= 0:
        draw.set(f"stages.{last}.until", 1.0)
        draw.set(f"stages.{last}.length_frac", 1.0)
