"""New verdicts over a folder's claims, counted as they come, and what a person is told of them.

Owns: the counts, the lines. Must not know: engines, files.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console

from orchestrator.console.terminal import say
from orchestrator.proof.ladder import MARGIN_BINS
from orchestrator.results.broke import where_it_broke
from orchestrator.results.ledger import Row
from orchestrator.verifiers.contract import GREEDY, Mode, Verdict

MOST_LOST = 20
"""Texts that are not exact any more and get a line of their own."""


@dataclass
class Tally:
    """What became of claims.

    Attributes:
        before: who said so first.
        num_unproved: rows that claim nothing.
        mode: how prompts are decoded this time.
        says: the text of token ids, asked for where a claim is lost.
        who: the engine, of the first verdict.
        num_judged, num_exact: claims.
        num_for_beams, num_held: claims for beam search too, and those of them that hold.
        judged, exact: claims by bin of their margin.
        lost: lines about the first that do not hold.
    """

    before: list[str] = field(default_factory=list)
    num_unproved: int = 0
    mode: Mode = GREEDY
    says: Callable[[list[int]], str] | None = None
    who: str = ""
    num_judged: int = 0
    num_exact: int = 0
    num_for_beams: int = 0
    num_held: int = 0
    judged: list[int] = field(default_factory=lambda: [0] * len(MARGIN_BINS))
    exact: list[int] = field(default_factory=lambda: [0] * len(MARGIN_BINS))
    lost: list[str] = field(default_factory=list)

    @property
    def is_all_exact(self) -> bool:
        """Every claim of the folder holds, and there is one; rows that claim nothing do not count."""
        return 0 < self.num_judged == self.num_exact

    def add(self, row: Row, verdict: Verdict) -> None:
        """Count the verdict on a row's claim."""
        self.who = self.who or f"{verdict.engine} ({verdict.engine_dtype}{_beams(self.mode)})"
        self.num_judged += 1
        self.num_exact += verdict.exact
        if (place := bisect_right(MARGIN_BINS, row["min_margin"]) - 1) >= 0:
            self.judged[place] += 1
            self.exact[place] += verdict.exact
        is_for_beams = row["proof"] == "beam"
        self.num_for_beams += is_for_beams
        self.num_held += is_for_beams and verdict.exact
        if not verdict.exact and len(self.lost) < MOST_LOST:
            # Without a claim there is nothing to keep: a greedy text need not be what beams find.
            also = ", and it is claimed for beam search" if self.mode.beams > 1 and is_for_beams else ""
            self.lost.append(f"{verdict.id}: {verdict.refusal or self._broke(row, verdict)}{also}")

    def survival(self) -> list[tuple[float, int, int]]:
        """(lower edge of margin, exact, judged) for each bin that has any."""
        bins = zip(MARGIN_BINS, self.exact, self.judged, strict=True)
        return [(low, exact, judged) for low, exact, judged in bins if judged]

    def _broke(self, row: Row, verdict: Verdict) -> str:
        said = {"first_mismatch": verdict.first_mismatch, "generated_ids": list(verdict.generated_ids)}
        return where_it_broke(row | said, self.says) or "not exact"


def print_tally(tally: Tally, console: Console) -> None:
    """What changed, survival by margin, and the count."""
    num_lost = tally.num_judged - tally.num_exact
    for line in tally.lost:
        say(console, line, "red")
    if num_lost > len(tally.lost):
        say(console, f"... and {num_lost - len(tally.lost)} more")
    for low, exact, judged in tally.survival() if num_lost else []:
        say(console, f"margin from {low:g}: {exact} of {judged} exact")
    if tally.num_unproved:
        say(console, f"{tally.num_unproved} rows hold no prompt that was proved by the run")
    if tally.mode.beams > 1:
        claimed = f"{tally.num_for_beams} of {tally.num_judged} claim beam search of any width"
        say(console, f"{claimed}; {tally.num_held} of these hold")
    if tally.num_judged:
        say(console, f"before: exact on {' and '.join(tally.before)}")
    on = f" on {tally.who}" if tally.who else ""
    style = "bold green" if tally.is_all_exact else "bold yellow"
    say(console, f"{tally.num_exact} of {tally.num_judged} stored prompts exact{on}", style)


def _beams(mode: Mode) -> str:
    return f", beam search of width {mode.beams}" if mode.beams > 1 else ""
