"""Which texts recipes are compared on: some to search with, others to check the winner with.

Owns: the draw, the split, the rungs. Must not know: Ray, recipes, how texts are solved.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from engine.slots import Job
from orchestrator.errors import UserError
from orchestrator.intake import Accepted, Taken

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

    @property
    def rungs(self) -> list[list[str]]:
        """Ids of the texts to search with, a few first: each rung as large as all before it."""
        ids, ends = [job.target.id for job in self.tune], self.rung_ends
        return [ids[first:last] for first, last in zip([0, *ends], ends, strict=False)]

    @property
    def rung_ends(self) -> list[int]:
        """Texts seen at the end of each rung: an eighth, a quarter, half of them, all; two at least."""
        total = len(self.tune)
        return sorted({total} | {total // share for share in (2, 4, 8) if total // share >= 2})


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
