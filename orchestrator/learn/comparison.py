"""What a learned start is worth: held-out texts solved from it and from the recipe's own, side by side.

Owns: the paired comparison. Must not know: training, files.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from engine.correction.trainer import num_vectors_for
from engine.frozen_lm import FrozenLM
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target

NUM_TEXTS = 24
NUM_RESAMPLES = 2000
TABLE = 2048
"""Positions of the comparison's table. Assumption."""


@dataclass(frozen=True)
class Worth:
    """Work to a certified margin from both starts, over the texts that both came to an end with.

    Attributes:
        ratio: positions with the learned start over those without; work before the first step is counted.
        low, high: its 95 % interval over resampled texts.
        solved: of the texts, with the learned start and without.
        steps: means, likewise; positions: means, likewise.
    """

    texts: int
    ratio: float
    low: float
    high: float
    solved: tuple[int, int]
    steps: tuple[float, float]
    positions: tuple[float, float]

    @property
    def pays(self) -> bool:
        """Whether it is known to take less work, and solves no fewer."""
        return self.high < 1 and self.solved[0] >= self.solved[1]

    def texts_to_pay(self, trained_positions: int) -> int | None:
        """Texts after which the training's work is had back; None where it never is."""
        saved = self.positions[1] - self.positions[0]
        return math.ceil(trained_positions / saved) if self.pays else None

    def to_json(self) -> dict:
        return asdict(self)


def compare(
    lm: FrozenLM,
    targets: list[Target],
    learned: Recipe,
    plain: Recipe,
    *,
    tokens_per_vector: float,
    seconds: float = math.inf,
    tell: Callable[[int, int], None] = lambda ended, attempts: None,
) -> Worth | None:
    """Solve every text under both recipes in one table.

    Args:
        seconds: texts that either has not ended by then are left out.
        tell: told after each step how many attempts ended, and of how many.
    Returns:
        None where no text came to its end under both.
    """
    chosen = targets[:: max(1, len(targets) // NUM_TEXTS)][:NUM_TEXTS]
    jobs = [
        replace(Job(t, recipe, num_vectors_for(len(t.token_ids), tokens_per_vector)), owner=name)
        for t in chosen
        for name, recipe in (("learned", learned), ("plain", plain))
    ]
    ended = _solve(Solver(lm, table_positions=TABLE), jobs, seconds, tell)
    pairs = [
        (ended["learned", t.id], ended["plain", t.id])
        for t in chosen
        if ("learned", t.id) in ended and ("plain", t.id) in ended
    ]
    return worth_of(pairs) if pairs else None


def _solve(
    solver: Solver, jobs: list[Job], seconds: float, tell: Callable[[int, int], None]
) -> dict[tuple[str, str], Attempt]:
    ends, ended = time.monotonic() + seconds, {}
    for job in jobs:
        solver.submit(job)
    while not solver.is_idle and time.monotonic() < ends:
        ended |= {(a.job.owner, a.job.target.id): a for a in solver.step()}
        tell(len(ended), len(jobs))
    return ended


def worth_of(pairs: list[tuple[Attempt, Attempt]]) -> Worth:
    """What attempts of a learned start are worth beside others at the same texts, (learned, plain) each."""
    work = [(a.positions, b.positions) for a, b in pairs]
    low, high = interval(work)
    return Worth(
        texts=len(pairs),
        ratio=round(_ratio(work), 4),
        low=round(low, 4),
        high=round(high, 4),
        solved=(sum(a.has_margin for a, _ in pairs), sum(b.has_margin for _, b in pairs)),
        steps=(round(fmean(a.steps for a, _ in pairs), 2), round(fmean(b.steps for _, b in pairs), 2)),
        positions=(round(fmean(a for a, _ in work), 1), round(fmean(b for _, b in work), 1)),
    )


def interval(work: list[tuple[int, int]]) -> tuple[float, float]:
    """95 % interval of the ratio of sums: texts are drawn again with replacement, always in the same way."""
    draw = random.Random(0)
    ratios = sorted(_ratio(draw.choices(work, k=len(work))) for _ in range(NUM_RESAMPLES))
    return ratios[round(0.025 * NUM_RESAMPLES)], ratios[round(0.975 * NUM_RESAMPLES) - 1]


def _ratio(work: list[tuple[int, int]]) -> float:
    return sum(a for a, _ in work) / sum(b for _, b in work)
