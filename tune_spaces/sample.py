"""Which texts recipes are compared on: some to search with, others to check the winner with.

Owns: the draw, the split, the rungs. Must not know: Ray, recipes, how texts are solved.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from engine.slots import Job
from orchestrator.console.errors import UserError
from orchestrator.corpus.intake import Accepted, Taken

MIN_RUNG = 4
"""Texts in the first rung: with three, no outcome is as unlikely as the test asks for (1/8 against 0.1)."""

MAX_LOOKED_AT = 10_000
"""Rows of a corpus that the sample is drawn from; a corpus may be larger than memory."""


@dataclass(frozen=True)
class Sample:
    """Texts of a search, none in both parts.

    Attributes:
        tune: the texts that trials are compared on, in the order they are tried.
        hold_out: the texts that the winner is compared with the base on.
    """

    tune: list[Job]
    hold_out: list[Job]

    def in_order(self, ids: Sequence[str]) -> "Sample":
        """The same, its texts to search with in another order."""
        return replace(self, tune=sorted(self.tune, key=lambda job: ids.index(job.target.id)))

    @property
    def rungs(self) -> list[list[str]]:
        """Ids of the texts to search with, a few first."""
        ids, ends = [job.target.id for job in self.tune], self.rung_ends
        return [ids[first:last] for first, last in zip([0, *ends], ends, strict=False)]

    @property
    def rung_ends(self) -> list[int]:
        """Texts seen at the end of each rung: twice as many up to half of them, three quarters, all."""
        total = len(self.tune)
        ends = {total // 8, total // 4, total // 2, 3 * total // 4}
        return sorted({total} | {end for end in ends if end >= MIN_RUNG})


def draw_sample(taken: Iterable[Taken], num_texts: int, num_hold_out: int, seed: int) -> Sample:
    """A random sample of a corpus's targets, split at random.

    Raises:
        UserError: too few targets.
    """
    accepted = (item.job for item in islice(taken, MAX_LOOKED_AT) if isinstance(item, Accepted))
    jobs = list({job.target.token_ids: job for job in accepted}.values())
    if len(jobs) < num_texts + num_hold_out:
        raise UserError(
            f"--texts {num_texts} and --hold-out {num_hold_out}: the corpus has {len(jobs)} different texts that can "
            f"be targets (in its first {MAX_LOOKED_AT} rows); lower them, or take a larger corpus"
        )
    drawn = random.Random(seed).sample(jobs, num_texts + num_hold_out)
    return Sample(drawn[:num_texts], drawn[num_texts:])
