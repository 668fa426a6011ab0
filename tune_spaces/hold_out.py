"""Whether the winner is better on texts the search never saw.

Owns: the comparison and what it comes to. Must not know: Ray, Optuna.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from orchestrator.console.errors import UserError
from orchestrator.pool.outcome import Outcome

FILE = "held_out.json"
"""What the winner and the base came to on other texts; null where they did not meet there."""

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95

MEASURES: dict[str, tuple[str, Callable[[Outcome], float]]] = {
    "cost": ("cost", lambda outcome: outcome.cost),
    "capacity": ("exact prefix", lambda outcome: outcome.prefix_tokens),
}
"""What two recipes are compared in, by objective: its name, a text's share of it. Of several objectives the cost."""


@dataclass(frozen=True)
class Comparison:
    """Two recipes on the same texts.

    Attributes:
        ratio: the winner's total over the base's; of cost less is better, of capacity more.
        low, high: 95 % interval of the ratio, texts resampled in pairs.
        winner_exact, base_exact: verified texts of each.
        measure: one of `MEASURES`.
    """

    ratio: float
    low: float
    high: float
    winner_exact: int
    base_exact: int
    num_texts: int
    measure: str = "cost"

    @property
    def is_win(self) -> bool:
        """Better beyond what texts drawn by luck explain; of cost also no text fewer exact."""
        if self.measure == "capacity":
            return self.low > 1
        return self.high < 1 and self.winner_exact >= self.base_exact

    @property
    def figures(self) -> str:
        """Ratio, interval and verified texts, in words."""
        name, _ = MEASURES[self.measure]
        return (
            f"{self.ratio:.2f} times the base's {name} ({CONFIDENCE:.0%} interval {self.low:.2f} to {self.high:.2f}), "
            f"{self.winner_exact} against {self.base_exact} of {self.num_texts} exact"
        )


def compare(winner: Sequence[Outcome], base: Sequence[Outcome], objective: str = "cost", seed: int = 0) -> Comparison:
    """Two recipes on the same texts, with a bootstrap interval over pairs.

    Args:
        winner, base: outcomes of the same texts in the same order.
    Source: percentile bootstrap, Efron & Tibshirani 1993.
    """
    assert [outcome.id for outcome in winner] == [outcome.id for outcome in base], "texts must be paired"
    measure = objective if objective in MEASURES else "cost"
    _, share = MEASURES[measure]
    ours_N, theirs_N = (np.array([share(outcome) for outcome in side], float) for side in (winner, base))
    picks_RN = np.random.default_rng(seed).integers(len(ours_N), size=(NUM_RESAMPLES, len(ours_N)))
    with np.errstate(divide="ignore", invalid="ignore"):  # a base that never has a token right
        ratios_R = np.nan_to_num(ours_N[picks_RN].sum(1) / theirs_N[picks_RN].sum(1), nan=1.0, posinf=np.inf)
        ratio = np.nan_to_num(ours_N.sum() / theirs_N.sum(), nan=1.0, posinf=np.inf)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios_R, [tail, 1 - tail], method="nearest")
    return Comparison(
        float(ratio), float(low), float(high), sum(outcome.exact for outcome in winner),
        sum(outcome.exact for outcome in base), len(ours_N), measure,
    )  # fmt: skip


def kept_comparison(comparison: Comparison | None) -> dict[str, bytes]:
    """The file that keeps it, by name."""
    return {FILE: (json.dumps(comparison and asdict(comparison)) + "\n").encode()}


def read_comparison(folder: Path) -> Comparison | None:
    """What a search's folder keeps; None where the winner has not met the base on other texts.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return None if values is None else Comparison(**values)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged; remove it, or let the same `verbatim tune` write it anew") from error
