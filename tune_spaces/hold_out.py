"""Whether the winner is better on texts the search never saw.

Owns: the comparison and what it comes to. Must not know: Ray, Optuna.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.pool.outcome import Outcome

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """Two recipes on the same texts.

    Attributes:
        ratio: the winner's total cost over the base's; below 1 the winner is cheaper.
        low, high: 95 % interval of the ratio, texts resampled in pairs.
        winner_exact, base_exact: verified texts of each.
    """

    ratio: float
    low: float
    high: float
    winner_exact: int
    base_exact: int
    num_texts: int

    @property
    def is_win(self) -> bool:
        """Cheaper, and no text fewer exact; the interval says how sure that is."""
        return self.ratio < 1 and self.winner_exact >= self.base_exact

    @property
    def verdict(self) -> str:
        """One sentence."""
        interval = (
            f"{self.ratio:.2f} times the base's cost ({CONFIDENCE:.0%} interval {self.low:.2f} to {self.high:.2f})"
        )
        exact = f"{self.winner_exact} against {self.base_exact} of {self.num_texts} exact"
        if not self.is_win:
            return f"the winner is no better on held-out texts: {interval}, {exact}; the base stays"
        sure = "" if self.high < 1 else "; the interval does not exclude that it is no better"
        return f"the winner on held-out texts: {interval}, {exact}{sure}"


def compare(winner: Sequence[Outcome], base: Sequence[Outcome], seed: int = 0) -> Comparison:
    """Cost of two recipes on the same texts, with a bootstrap interval over pairs.

    Args:
        winner, base: outcomes of the same texts in the same order.
    Source: percentile bootstrap, Efron & Tibshirani 1993.
    """
    assert [outcome.id for outcome in winner] == [outcome.id for outcome in base], "texts must be paired"
    ours_N, theirs_N = (np.array([outcome.cost for outcome in side]) for side in (winner, base))
    picks_RN = np.random.default_rng(seed).integers(len(ours_N), size=(NUM_RESAMPLES, len(ours_N)))
    ratios_R = ours_N[picks_RN].sum(1) / theirs_N[picks_RN].sum(1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios_R, [tail, 1 - tail])
    return Comparison(
        float(ours_N.sum() / theirs_N.sum()), float(low), float(high), sum(outcome.exact for outcome in winner),
        sum(outcome.exact for outcome in base), len(ours_N),
    )  # fmt: skip
