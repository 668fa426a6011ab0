"""Figures over all rows of a run, counted as the rows go by.

Owns: what is counted, and the few numbers that are kept for each row. Must not know: files, HTML, models.
"""

import math
import statistics
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from orchestrator.results.ledger import Row

MARGIN_BINS = 32
LARGEST_MARGINS_FRAC = 0.01
"""Share of the margins that may lie beyond the histogram's last bin: one text with a margin of 40 would flatten it."""
WORK_POINTS = 100


@dataclass
class Figures:
    """Counts, and a number of each row where a median or a curve needs it: some 40 bytes a row."""

    statuses: Counter[str] = field(default_factory=Counter)
    diagnoses: Counter[str] = field(default_factory=Counter)
    judged: Counter[tuple[str, str]] = field(default_factory=Counter)
    exact: Counter[tuple[str, str]] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    steps: array = field(default_factory=lambda: array("q"))
    work: array = field(default_factory=lambda: array("q"))
    exact_margins: array = field(default_factory=lambda: array("f"))
    other_margins: array = field(default_factory=lambda: array("f"))

    def add(self, row: Row) -> None:
        """Count one row."""
        self.statuses[row["status"]] += 1
        if row["engine"]:
            engine = (row["engine"], row["engine_dtype"] or "")
            self.judged[engine] += 1
            self.exact[engine] += bool(row["exact"])
        if row["diagnosis"] and not row["exact"]:
            self.diagnoses[row["diagnosis"]] += 1
        if row["num_vectors"] is None:
            return
        self.attempts[row["attempts"]] += 1
        self.work.append(row["positions"])
        if row["exact"]:
            self.steps.append(row["steps"])
        if row["min_margin"] is not None and math.isfinite(row["min_margin"]):
            (self.exact_margins if row["exact"] else self.other_margins).append(row["min_margin"])

    def told(self) -> dict[str, Any]:
        """As the page takes them; names are values, never keys, because they come from a folder."""
        margins = self.exact_margins
        return {
            "num_rows": self.statuses.total(),
            "num_exact": self.exact.total(),
            "statuses": self.statuses.most_common(),
            "diagnoses": self.diagnoses.most_common(),
            "engines": [[*engine, self.exact[engine], judged] for engine, judged in self.judged.most_common()],
            "attempts": sorted(self.attempts.items()),
            "mean_steps": round(statistics.fmean(self.steps), 1) if self.steps else None,
            "median_steps": statistics.median(self.steps) if self.steps else None,
            "least_margin": rounded(min(margins)) if margins else None,
            "median_margin": rounded(statistics.median(margins)) if margins else None,
            "num_positions": sum(self.work),
            "margins": _histogram(self.exact_margins, self.other_margins),
            "work": _concentration(self.work),
        }


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Few digits, so that a page of a thousand texts stays small; None where it is not a finite number."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


def _histogram(exact: array, other: array) -> dict[str, Any] | None:
    """Counts by margin, the exact ones and the others; the last bin takes all that is larger."""
    values = sorted([*exact, *other])
    if not values:
        return None
    low = min(values[0], 0.0)
    high = max(values[int((len(values) - 1) * (1 - LARGEST_MARGINS_FRAC))], low + 1e-3)
    width = (high - low) / MARGIN_BINS

    def counts(margins: array) -> list[int]:
        bins = Counter(min(MARGIN_BINS - 1, int((margin - low) / width)) for margin in margins)
        return [bins[number] for number in range(MARGIN_BINS)]

    return {
        "low": rounded(low), "high": rounded(high), "exact": counts(exact), "other": counts(other),
        "beyond": sum(value > high for value in values),
    }  # fmt: skip


def _concentration(work: array) -> list[float]:
    """Share of all work that the hardest texts took, at even steps: 1 %, 2 %, ... of them, or one by one if few."""
    hardest = sorted(work, reverse=True)
    total = sum(hardest)
    if not total:
        return []
    shares, taken, place = [0.0], 0, 0
    num_points = min(WORK_POINTS, len(hardest))
    for point in range(1, num_points + 1):
        until = round(len(hardest) * point / num_points)
        taken, place = taken + sum(hardest[place:until]), until
        shares.append(round(taken / total, 4))
    return shares
