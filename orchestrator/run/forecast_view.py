"""A forecast as a person, or a program, is told of it.

Owns: the lines, the JSON. Must not know: how the figures came to be.
"""

from dataclasses import asdict
from typing import Any

from rich.console import Console

from engine.recipe import Recipe
from orchestrator.console.terminal import one_line, say, say_json
from orchestrator.corpus.selection import Selection
from orchestrator.process.memory import GIB
from orchestrator.results.differences import differences
from orchestrator.run.forecast import Forecast, Given, Work


def print_forecast(forecast: Forecast, console: Console, *, as_json: bool) -> None:
    """A handful of lines, or one object."""
    if as_json:
        say_json(to_json(forecast))
        return
    for line in _lines(forecast):
        say(console, one_line(line))


def to_json(forecast: Forecast) -> dict[str, Any]:
    """Every figure under its own name, the recipe as `run.json` would have it."""
    return asdict(forecast) | {
        "recipe": forecast.recipe.model_dump(mode="json"),
        "recipe_hash": forecast.recipe.hash,
    }


def _lines(forecast: Forecast) -> list[str]:
    num_invalid = sum(invalid.count for invalid in forecast.invalid.values())
    meant = "," if forecast.selection == str(Selection()) else f"; of {forecast.selection}:"
    counts = f"{forecast.num_rows:,} rows{meant} {forecast.num_targets:,} target(s), {num_invalid:,} invalid"
    lines = [f"{forecast.corpus}: {counts}"]
    if forecast.num_done:
        lines[0] += f"; {forecast.num_done:,} have their result in {forecast.out} already"
    for reason, invalid in sorted(forecast.invalid.items()):
        more = ", ..." if invalid.count > len(invalid.ids) else ""
        lines.append(f"invalid, {reason}: {invalid.count:,} ({', '.join(invalid.ids)}{more})")
    if tokens := forecast.tokens:
        lines.append(
            f"tokens of a text: shortest {tokens.shortest:,}, median {tokens.median:,}, longest {tokens.longest:,}"
        )
    lines += [
        f"recipe {forecast.recipe.hash}: {_set(forecast.recipe)}",
        _memory(forecast.given, forecast.engine),
        _positions(forecast.work),
        _time(forecast.work),
        "nothing was started or written",
    ]
    return lines


def _set(recipe: Recipe) -> str:
    told = differences(Recipe().model_dump(mode="json"), recipe.model_dump(mode="json"))
    return "; ".join(told) or "the default"


def _memory(given: Given | None, engine: str) -> str:
    if given is None:
        return "memory: that of the cluster's nodes, looked at when the run joins it"
    where = "this machine" if given.device == "cpu" else "the fullest card"
    return (
        f"memory: {given.free / GIB:.1f} of {given.total / GIB:.1f} GiB free on {where}, {given.weights / GIB:.2f} GiB "
        f"of weights in {given.dtype}: {given.num_solvers} solver(s) with a table of {given.table:,} positions, "
        f"verified by {engine} in {given.engine_dtype}, a text with its vectors up to {given.served:,} positions"
    )


def _positions(work: Work) -> str:
    vectors = f"{work.num_vectors:,} vectors"
    if not work.are_vectors_known:
        vectors += ", counted as one a token, the most: the run measures how many it takes"
    return (
        f"work: {work.positions:,} positions a pass over every target ({vectors}); at most {work.most_passes:,} passes "
        "by the recipe's max_steps, attempts and siblings"
    )


def _time(work: Work) -> str:
    earlier = work.experience
    if earlier is None:
        return (
            "time: depends on the passes that texts take and on the device, and no earlier run of this model lies "
            "beside --out; run a few texts first, their rate is used from then on"
        )
    rate = f"{earlier.rate:,.0f} positions a second in {earlier.folder} ({earlier.num_texts:,} texts, {earlier.device})"
    if work.expected is None or work.seconds is None:
        return f"time: {rate}, under another recipe; the passes that texts take under this one are not known"
    return f"time: about {_span(work.seconds)}: {work.expected:,} positions by {earlier.passes:.0f} passes, {rate}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
