"""`verbatim decode` on the terminal and as JSON.

Owns: how texts, mismatches and margins are drawn. Must not know: models, tokenizers, where the facts come from.
"""

import math
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from orchestrator.console.terminal import printable, say_json
from orchestrator.decode.sight import Said, Sight

LEVELS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Margins, in logits, from which a bar is one step higher: fixed, so that pictures of two texts compare."""
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "12345678"
"""For terminals without block characters."""
NO_MARGIN = "x"
LEAST_SHARE = 0.01
"""Tokens with less are in the JSON alone."""

GROUP = 10
"""Bars a line are a multiple of this, so that a position can be counted off."""


def print_sight(sight: Sight, console: Console, *, as_json: bool) -> None:
    """Target, what each strategy said, and the margins, one under the other."""
    if as_json:
        say_json(asdict(sight))
        return
    width = max(len(name) for name in ("margins", *(said.strategy for said in sight.strategies))) + 2
    _print_line(console, "target", width, Text(printable(sight.target)))
    for said in sight.strategies:
        _print_line(console, said.strategy, width, marked(said, is_coloured=_is_coloured(console)))
        _print_line(console, "", width, Text(_verdict(said), style="green" if said.exact else "yellow"))
        _print_beliefs(said, console, width)
    _print_margins(sight, console, width)


def marked(said: Said, *, is_coloured: bool) -> Text:
    """A text with its first wrong token in reverse, or between `>>` and `<<` where there is no colour."""
    if said.exact:
        return Text(printable(said.says), style="green")
    wrong = printable(said.wrong) or "(end)"
    right, rest = printable(said.right), printable(said.rest)
    if not is_coloured:
        return Text(f"{right}>>{wrong}<<{rest}")
    return Text.assemble((right, "green"), (wrong, "reverse red"), (rest, "dim"))


def bar(margin: float, bars: str = BARS) -> str:
    """One character for a margin: a step up with every doubling, `x` where it is not above 0."""
    return bars[sum(margin >= level for level in LEVELS)] if margin > 0 else NO_MARGIN


def _verdict(said: Said) -> str:
    verdict = "exact" if said.exact else f"differs from token {said.first_mismatch} on ({said.diagnosis})"
    return printable(f"{verdict}; score {said.score:.4g}")


def _print_beliefs(said: Said, console: Console, width: int) -> None:
    """A line a step: the tokens with the largest shares in what the model read next, and how undecided it was."""
    if not said.beliefs:
        return
    _print_line(console, "beliefs", width, Text("shares of the tokens read at each step, largest first"))
    for step, belief in enumerate(said.beliefs):
        line = Text()
        for n, (token, share) in enumerate(zip(belief.tokens, belief.shares, strict=True)):
            if n == 0 or share >= LEAST_SHARE:
                line.append(f'{share:.0%} "{printable(token)}"  ', "" if n == 0 else "dim")
        line.append(f"({belief.entropy / math.log(2):.1f} bits)", "dim")
        _print_line(console, f"{step:>{width - 2}}", width, line)


def _print_margins(sight: Sight, console: Console, width: int) -> None:
    bars = PLAIN_BARS if console.options.ascii_only else BARS
    weakest = sight.weakest
    legend = (
        f"one bar a token, logits in {sight.dtype}: {NO_MARGIN} not above 0, {bars[0]} above 0, "
        f"{bars[3]} from {LEVELS[2]:g}, {bars[-1]} from {LEVELS[-1]:g}"
    )
    _print_line(console, "margins", width, Text(printable(legend)))
    per_line = max(GROUP, (console.width - width) // GROUP * GROUP)
    for start in range(0, len(sight.margins), per_line):
        line = Text()
        for t, margin in enumerate(sight.margins[start : start + per_line], start):
            style = "red" if not margin > 0 else "bold yellow" if t == weakest.token else ""
            line.append(bar(margin, bars), style)
        _print_line(console, f"{start:>{width - 2}}", width, line)
    text = f'token {weakest.token} "{printable(weakest.text)}" with {weakest.margin:.2f} logits'
    _print_line(console, "weakest", width, Text(text))


def _print_line(console: Console, label: str, width: int, text: Text) -> None:
    console.print(Text.assemble((f"{label:<{width}}", "dim"), text), soft_wrap=True)


def _is_coloured(console: Console) -> bool:
    return console.color_system is not None and not console.no_color
