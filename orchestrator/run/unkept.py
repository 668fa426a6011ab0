"""What could not be written: logged each time, told to a person once in a while, the end of nothing yet.

Owns: the words. Must not know: how things are kept, when they are tried again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.process.failures import reason

TOLD_EVERY_S = 60.0

CHECKPOINTS = "checkpoints cannot be written now ({}); it is tried again, and until then a kill costs more"
PARTS = "results cannot be written now ({}); it is tried again, and solvers wait once too much is to be written"


@dataclass
class Unkept:
    """Called with every failure to write something.

    Attributes:
        log: keeps the cause.
        say: tells a person.
        words: what is told, with room for the cause.
    """

    log: Callable[[str], None]
    say: Callable[[str], None]
    words: str
    _told: float | None = None

    def __call__(self, error: Exception) -> None:
        why, now = reason(error), time.monotonic()
        self.log(why)
        if self._told is None or now - self._told >= TOLD_EVERY_S:
            self._told = now
            self.say(self.words.format(why))
