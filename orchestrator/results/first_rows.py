"""The first rows of a corpus, picked from rows that come in any order.

Owns: which are kept. Must not know: what is in a row.
"""

import heapq
from dataclasses import dataclass, field

from orchestrator.results.ledger import Row


@dataclass
class FirstRows:
    """The `limit` rows of the lowest numbers among those that go by."""

    limit: int
    _heap: list[tuple[int, int, Row]] = field(default_factory=list)
    _num_seen: int = 0

    def add(self, row: Row) -> None:
        self._num_seen += 1
        entry = (-row["row"], self._num_seen, row)  # the second number decides between equals; rows have no order
        if len(self._heap) < self.limit:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    @property
    def rows(self) -> list[Row]:
        """In the order of the corpus."""
        return [row for _, _, row in sorted(self._heap, key=lambda entry: -entry[0])]
