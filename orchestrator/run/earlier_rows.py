"""Rows of an earlier run as a corpus.

Owns: which rows, their order. Must not know: what that run was asked for, what this one does with them.

The order is that in which they were committed: it stays when that run goes on, so that rows which come to it later are
appended to this corpus.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.console.errors import UserError
from orchestrator.corpus import Corpus, CorpusRow
from orchestrator.results.ledger import Ledger
from orchestrator.storage.location import Location


@dataclass(frozen=True)
class EarlierRows(Corpus):
    """The rows of a folder that have one of these statuses; its own ids, and texts as far as it holds them."""

    ledger: Ledger
    statuses: tuple[str, ...]

    def rows(self) -> Iterator[CorpusRow]:
        number = 0
        for row in self.ledger.read(["id", "text", "status"]):
            if row["status"] in self.statuses:
                yield CorpusRow(number, row["id"], row["text"])
                number += 1


def open_earlier(folder: Location, statuses: tuple[str, ...]) -> EarlierRows:
    """The rows to take from a folder.

    Raises:
        UserError: there are none, or a part is damaged.
    """
    ledger = Ledger(folder)
    counts = Counter(row["status"] for row in ledger.read(["status"]))
    num_rows = sum(counts[status] for status in statuses)
    if not num_rows:
        there = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "no rows yet"
        raise UserError(f"--from {folder}: no row is {' or '.join(statuses)}; it holds {there}; give another --status")
    rows = EarlierRows(folder, "text", "id", num_rows, "", (), "doubled", ledger, statuses)
    return replace(rows, fingerprint=rows.digest())
