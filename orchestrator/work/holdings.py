"""Who holds which texts.

Owns: leases by worker, their read positions. Must not know: states, who may lease.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice

from orchestrator.work.item import Item, TransitionError, positions


@dataclass
class Holding:
    """What one worker holds: items by id in the order of their leases, and the read positions of them all."""

    items: dict[str, Item] = field(default_factory=dict)
    positions: int = 0

    @property
    def has_suspects(self) -> bool:
        """Suspects are never held beside others, so that one item tells."""
        return any(item.num_lost for item in islice(self.items.values(), 1))

    def spare(self, max_positions: float) -> list[str]:
        """The last of its texts that together stay within `max_positions`; suspects keep their worker."""
        ids: list[str] = []
        for item in () if self.has_suspects else reversed(self.items.values()):
            max_positions -= positions(item.due)
            if max_positions < 0:
                break
            ids.append(item.id)
        return ids


class Holdings:
    """What every worker holds."""

    def __init__(self) -> None:
        self._by_worker: defaultdict[str, Holding] = defaultdict(Holding)

    def of(self, worker: str) -> Holding:
        return self._by_worker[worker]

    def hold(self, worker: str, item: Item) -> None:
        item.worker = worker
        holding = self._by_worker[worker]
        holding.items[item.id] = item
        holding.positions += positions(item.due)

    def release(self, item: Item) -> None:
        assert item.worker is not None, f"{item.id} is held by nobody"
        holding = self._by_worker[item.worker]
        del holding.items[item.id]
        holding.positions -= positions(item.due)
        item.worker = None


def require_holder(item: Item, worker: str, does: str) -> None:
    """A worker may only do something with what it holds.

    Raises:
        TransitionError: it is another's or nobody's.
    """
    if item.worker != worker:
        raise TransitionError(f"{item.id}: {worker} {does} what {item.worker or 'nobody'} holds")
