"""Both ends of the dispatcher: where jobs come from, where outcomes go.

Owns: what each must be able to do. Must not know: who does it.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.fleet.answers import Advance
from orchestrator.work.item import Kept
from orchestrator.work.work_queue import WorkQueue

if TYPE_CHECKING:
    from orchestrator.dispatch.dispatcher import Dispatcher


class Source(Protocol):
    """Puts texts into the queue."""

    @property
    def is_over(self) -> bool:
        """Whether no text will ever come any more."""
        ...

    @property
    def holds_back(self) -> bool:
        """Whether texts wait that the queue had no room for; until then solvers take all they can hold."""
        ...

    def fill(self, queue: WorkQueue, most_open: int) -> None:
        """Add texts until so many are open, or none is there."""
        ...

    def unwanted(self, held: Collection[str]) -> Collection[str]:
        """Which of the texts that a solver holds are to be let go of."""
        ...

    def wait(self, seconds: float) -> None:
        """Nobody is at work: return when a text has come, at the latest after so many seconds."""
        ...


class Sink(Protocol):
    """Takes what became of texts out of the queue."""

    @property
    def awaited(self) -> Collection[Any]:
        """Ray's references of what it waits for: the loop turns when one is there."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be kept that solvers should get nothing new."""
        ...

    def advanced(self, advance: Advance) -> None:
        """A solver came back from a slice of time; the queue has taken its attempts."""
        ...

    def keep(self, checkpoints: Mapping[int, Kept]) -> None:
        """What attempts under way can go on from, by row."""
        ...

    def lost(self, ids: Collection[str]) -> None:
        """A solver is gone with what these texts had got since their last checkpoint."""
        ...

    def turned(self, dispatcher: "Dispatcher") -> None:
        """The loop has turned once: time to take items that ended, and to tell how things stand."""
        ...

    def settle(self, dispatcher: "Dispatcher") -> None:
        """Every text has ended: see that what became of each is kept; the queue has those again that are lost."""
        ...
