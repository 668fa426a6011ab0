"""The desk of a slot pool: where recipes are asked for, and both ends of the dispatcher that tries them.

Owns: who waits for what, what is known already, what nobody wants any more. Must not know: solvers, why a recipe is
tried.

    ask, drop -> source -> (dispatcher) -> sink -> outcomes, known and kept

Two threads meet here: the pool's, in which callers ask and wait, and the dispatcher's. Each holds the lock while it
looks at what both know, and never for longer than it takes to change a dictionary or to write a line.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.recipe import Recipe
from engine.slots import Attempt, Job
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.fleet.answers import Advance
from orchestrator.pool.asked import PoolText, outcome_of
from orchestrator.pool.outcome import Outcome, OutcomeFile
from orchestrator.verifiers.contract import Verdict
from orchestrator.work.item import Item, Kept
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue


@dataclass
class Asked:
    """A text under a recipe that somebody has asked for.

    Attributes:
        has_ended: done when it has, or when it never will; of the loop that callers wait in.
        outcome: what it came to.
        num_looks: calls that wait for it.
        is_unwanted: its recipe was dropped; whoever asks again wants it again.
        ended: positions of attempts that ended.
        spent: positions of the attempt under way.
        prefix_tokens: longest prefix that an attempt that ended had exact.
    """

    job: Job
    has_ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    outcome: Outcome | None = None
    num_looks: int = 0
    is_unwanted: bool = False
    ended: float = 0.0
    spent: float = 0.0
    prefix_tokens: int = 0

    def wake(self) -> None:
        """Let those who wait for it look, from any thread."""
        self.has_ended.get_loop().call_soon_threadsafe(lambda: self.has_ended.done() or self.has_ended.set_result(None))


class Desk:
    """Texts under recipes, as they are asked for; the source and the sink of a pool's dispatcher.

    Args:
        texts: that recipes may be tried on.
        served_length: positions that soft prompt and target may have together.
        kept: file of the outcomes that have been paid for.
    """

    is_over = False
    holds_back = False

    def __init__(self, texts: Collection[PoolText], served_length: int, kept: OutcomeFile):
        self._texts = {text.job.target.id: text for text in texts}
        self._served_length, self._kept = served_length, kept
        self._known = {f"{recipe}/{outcome.id}": outcome for recipe, outcome in kept.read()}
        self._asked: dict[str, Asked] = {}
        self._new: list[Job] = []
        self._fault: Exception | None = None
        self._lock = threading.Lock()
        self._has_new = threading.Condition(self._lock)

    @property
    def num_known(self) -> int:
        """Outcomes that nobody has to pay for any more."""
        return len(self._known)

    # What callers do.

    def ask(self, recipe: Recipe, ids: list[str]) -> list[Asked | Outcome]:
        """What is known of texts under a recipe, or is to be waited for; `leave` is due for the latter.

        Raises:
            Exception: what the dispatcher ended with.
        """
        with self._lock:
            if self._fault is not None:
                raise self._fault
            places = [self._ask(self._texts[id].under(recipe)) for id in ids]
            for place in places:
                if isinstance(place, Asked):
                    place.num_looks += 1
            self._has_new.notify()
            return places

    def leave(self, places: list[Asked | Outcome]) -> list[Outcome]:
        """What has become of what was asked for; the caller waits no longer.

        Raises:
            Exception: what the dispatcher ended with.
        """
        with self._lock:
            for place in places:
                if isinstance(place, Asked):
                    place.num_looks -= 1
            return [self._standing(place) for place in places]

    def drop(self, recipe: Recipe) -> None:
        """Give up what is under way of a recipe, except where another call waits for it."""
        with self._lock:
            for key, asked in self._asked.items():
                asked.is_unwanted |= key.startswith(f"{recipe.hash}/") and not asked.num_looks

    def _ask(self, job: Job) -> Asked | Outcome:
        if job.key in self._known:
            return self._known[job.key]
        if job.num_vectors + len(job.target.token_ids) > self._served_length:
            cost, num_tokens = self._texts[job.target.id].num_passes, len(job.target.token_ids)
            return Outcome(job.target.id, False, cost, 0, 0, 0, None, num_tokens=num_tokens)
        if job.key not in self._asked:
            self._asked[job.key] = Asked(job)
            self._new.append(job)
        self._asked[job.key].is_unwanted = False
        return self._asked[job.key]

    def _standing(self, place: Asked | Outcome) -> Outcome:
        if isinstance(place, Outcome):
            return place
        if place.outcome is not None:
            return place.outcome
        if self._fault is not None:
            raise self._fault
        id, positions = place.job.target.id, place.ended + place.spent
        return Outcome(id, False, self._texts[id].cost(positions), int(positions), 0, 0, None, is_under_way=True)

    # What the dispatcher does: its source.

    def fill(self, queue: WorkQueue, most_open: int) -> None:
        """Queue what was asked for; callers wait for it, so all of it."""
        with self._lock:
            for job in self._new:
                queue.add(0, job)
            self._new.clear()

    def unwanted(self, held: Collection[str]) -> Collection[str]:
        """Texts under recipes that were dropped."""
        with self._lock:
            return self._unwanted() & set(held)

    def wait(self, seconds: float) -> None:
        """Until something is asked for."""
        with self._has_new:
            self._has_new.wait_for(lambda: self._new, seconds)

    def retry(self, job: Job, attempt: Attempt, verdict: Verdict | None) -> Job:
        """What a run would try next, with what is left of the budget."""
        again = make_retry(self._served_length, job.recipe.num_vectors == "auto")(job, attempt, verdict)
        return replace(again, budget=max(0.0, job.budget - attempt.positions))

    # Its sink.

    awaited: Collection[Any] = ()
    is_behind = False

    def advanced(self, advance: Advance) -> None:
        """Note how far texts under way have come."""
        with self._lock:
            for key, spent in advance.spent.items():
                self._asked[key].spent = spent
            for attempt in advance.attempts:
                asked = self._asked[attempt.job.key]
                asked.ended, asked.spent = asked.ended + attempt.positions, 0.0
                asked.prefix_tokens = max(asked.prefix_tokens, attempt.prefix_tokens)

    def keep(self, checkpoints: Mapping[int, Kept]) -> None:
        """Nothing: the queue's memory of them is enough for texts that start over when the pool ends."""

    def lost(self, ids: Collection[str]) -> None:
        """Their attempts start over, or where they were a while ago."""
        with self._lock:
            for id in ids:
                self._asked[id].spent = 0.0

    def turned(self, dispatcher: Dispatcher) -> None:
        """Give outcomes to those who wait; forget what nobody wants, as far as nobody is at work on it."""
        with self._lock:
            for key in dispatcher.queue.drop(self._unwanted()):
                del self._asked[key]
            ended = dispatcher.queue.drain()
            for item in ended:
                self._settle(item)
        if ended:
            dispatcher.watch.kept(Counter(str(item.state) for item in ended), 0.0)

    def settle(self, dispatcher: Dispatcher) -> None:
        """Nothing: outcomes are kept as they come."""

    def fail(self, error: Exception) -> None:
        """The dispatcher cannot go on: everybody who waits, or asks later, is told."""
        with self._lock:
            self._fault = error
            for asked in self._asked.values():
                asked.wake()
            self._asked.clear()

    def _settle(self, item: Item) -> None:
        asked = self._asked.pop(item.id)
        outcome = outcome_of(item, self._texts[item.target.id], asked.prefix_tokens)
        if item.positions:  # else no solver could take it, here and now
            self._kept.append(item.id.partition("/")[0], outcome)
        self._known[item.id] = asked.outcome = outcome
        asked.wake()

    def _unwanted(self) -> set[str]:
        return {key for key, asked in self._asked.items() if asked.is_unwanted}
