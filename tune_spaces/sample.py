"""Which texts recipes are compared on: some to search with, others to check the winner with.

Owns: the draw, the split, the rungs. Must not know: Ray, recipes, how texts are solved.
"""

import hashlib
import heapq
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from engine.slots import Job
from orchestrator.console.errors import UserError
from orchestrator.corpus.intake import Accepted, Taken

MIN_RUNG = 4
"""Texts in the first rung: with three, no outcome is as unlikely as the test asks for (1/8 against 0.1)."""

LEAST_TEXTS = 2
"""Different texts without which nothing can be compared."""


@dataclass(frozen=True)
class Sample:
    """Texts of a search, none in both parts.

    Attributes:
        tune: the texts that trials are compared on, in the order they are tried.
        hold_out: the texts that the winner is compared with the base on.
    """

    tune: list[Job]
    hold_out: list[Job]

    def in_order(self, ids: Sequence[str], dear: str | None = None) -> "Sample":
        """The same, its texts to search with in another order, the one called `dear` last of the first rung.

        Whatever must lose is to lose cheaply, on texts that cost little; but a recipe that is worse on those and better
        on dear ones would be stopped before it met any.
        """
        order = list(ids)
        first = self.rung_ends[0]
        if dear is not None and order.index(dear) >= first:
            order.remove(dear)
            order.insert(first - 1, dear)
        return replace(self, tune=sorted(self.tune, key=lambda job: order.index(job.target.id)))

    @property
    def line(self) -> str:
        """How many there are."""
        held_out = f"{len(self.hold_out)} held out" if self.hold_out else "none held out"
        return f"{len(self.tune)} texts to search with, {held_out}"

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
    """A random sample of all of a corpus's different targets, split at random.

    Every target has a place in an order that seed and tokens alone decide, and the first ones are taken: each is as
    likely as any other, wherever in the corpus it stands, and one that comes twice is one. What is kept is as large as
    the sample, however large the corpus.

    Args:
        num_texts, num_hold_out: wanted; where there are fewer targets each part gets its share of them.
    Raises:
        UserError: too few targets to compare anything on.
    """
    wanted = num_texts + num_hold_out
    kept: list[tuple[int, tuple[int, ...], Job]] = []  # a heap, the last place first
    known: set[tuple[int, ...]] = set()
    for job in (item.job for item in taken if isinstance(item, Accepted)):
        entry = (-_place(job, seed), job.target.token_ids, job)
        if job.target.token_ids in known or (len(kept) == wanted and entry[0] <= kept[0][0]):
            continue
        known.add(job.target.token_ids)
        gone = heapq.heappush(kept, entry) if len(kept) < wanted else heapq.heapreplace(kept, entry)
        if gone is not None:
            known.remove(gone[1])
    if len(kept) < LEAST_TEXTS:
        raise UserError(
            f"--texts {num_texts}: the corpus has {len(kept)} different texts that can be targets, and a search needs "
            f"{LEAST_TEXTS} at least; take a larger corpus"
        )
    drawn = [job for _, _, job in sorted(kept, key=lambda entry: -entry[0])]
    num_tune = num_texts if len(drawn) == wanted else _share(len(drawn), num_texts, wanted)
    return Sample(drawn[:num_tune], drawn[num_tune:])


def _place(job: Job, seed: int) -> int:
    """Where a target stands in the order of a seed."""
    ids = job.target.token_ids
    digest = hashlib.blake2b(struct.pack(f"<Q{len(ids)}I", seed, *ids), digest_size=8)
    return int.from_bytes(digest.digest())


def _share(num_drawn: int, num_texts: int, wanted: int) -> int:
    """How many of too few texts are searched with: in proportion, but as many as the first rung has, if there are."""
    return min(num_drawn, max(MIN_RUNG, round(num_drawn * num_texts / wanted)))
