"""Who is waited for, said every half minute with what would help.

Owns: when that is said, and the words. Must not know: what the work is, who waits.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.fleet.worker import Worker

SAID_EVERY_S = 30.0
"""Seconds of waiting after which it is said, and said again."""


@dataclass
class Patience:
    """Counts how long somebody has been waited for.

    Attributes:
        say: tells a person.
        every_s: seconds between two times that it is said.
    """

    say: Callable[[str], None]
    every_s: float = SAID_EVERY_S
    _due: float | None = None

    def look(self, awaited: Iterable[Worker], why: str = "") -> None:
        """Tell of those who are waited for, when it is time to; called again and again as long as they are.

        Args:
            awaited: nobody where nothing is held up.
            why: what waits for them.
        """
        workers = list(awaited)
        if not workers:
            self._due = None
            return
        now = time.monotonic()
        self._due = self._due or now + self.every_s
        if now < self._due:
            return
        self._due = now + self.every_s
        for worker in workers:
            self.say(why + told(worker, now))


def told(worker: Worker, now: float) -> str:
    """Why a worker is waited for, and what would help."""
    waited = f"{now - worker.asked:.0f} s"
    if worker.is_without_seat:
        return (
            f"{worker.name} has waited {waited} for a node with {_in_words(worker)} free; "
            "add a node, or end what else has them (`ray status` shows it)"
        )
    if worker.is_starting:
        return f"{worker.name} has been loading its model for {waited}; on a first start it may be downloading it"
    return f"{worker.name} has been at one call for {waited}; it is replaced when its --lease is over"


def _in_words(worker: Worker) -> str:
    return " and ".join(f"{number:g} {name}" for name, number in worker.needs.items()) or "room"
