"""A run's source: the rows still to come, each where an earlier call left it.

Owns: which row is a text to queue and which a refusal, what an earlier call's attempt goes on from. Must not know:
solvers, results.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from orchestrator.corpus.intake import Accepted, Taken
from orchestrator.dispatch.watch import Watch
from orchestrator.results.in_flight import InFlight
from orchestrator.work.work_queue import WorkQueue


@dataclass
class CorpusSource:
    """Fills the queue from a corpus until it is read.

    Attributes:
        taken: rows still to come, in the order they are to be tried.
        in_flight: checkpoints of attempts that an earlier call was at.
        say: tells a person.
        watch: told of rows that cannot be targets.
    """

    taken: Iterator[Taken]
    in_flight: InFlight
    say: Callable[[str], None]
    watch: Watch
    _is_read: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the corpus is read."""
        return self._is_read

    @property
    def holds_back(self) -> bool:
        """Whether rows are still to be read."""
        return not self._is_read

    def fill(self, queue: WorkQueue, most_open: int) -> None:
        """Read rows until so many are open."""
        num_recalled = 0
        while not self._is_read and queue.num_open < most_open:
            item = next(self.taken, None)
            if item is None:
                self._is_read = True
            elif isinstance(item, Accepted):
                num_recalled += self._add(item, queue)
            else:
                queue.add_invalid(item.row, item.id, item.text, item.why)
                self.watch.refused(item.id, item.why.reason)  # the detail quotes the text
        if num_recalled:
            self.say(f"{num_recalled} attempts go on from where they were")

    def unwanted(self, held: Collection[str]) -> Collection[str]:
        """None: every row is wanted."""
        return ()

    def wait(self, seconds: float) -> None:
        """Not at all: the next turn reads on."""

    def _add(self, item: Accepted, queue: WorkQueue) -> bool:
        """Queue a text, where an earlier call left it or from its beginning; whether there was something left."""
        left = self.in_flight.recall(item.row, item.job.target)
        queue.add(item.row, *(left or (item.job, None)))
        return left is not None
