"""Checkpoints that could not be kept: logged each time, told to a person once in a while, the end of nothing.

Owns: the words. Must not know: how they are kept, when they are tried again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.dispatch.watch import Watch
from orchestrator.process.failures import reason

TOLD_EVERY_S = 60.0


@dataclass
class Unkept:
    """Called with every failure of `InFlight`.

    Attributes:
        say: tells a person.
    """

    say: Callable[[str], None]
    watch: Watch
    _told: float | None = None

    def __call__(self, error: Exception) -> None:
        why, now = reason(error), time.monotonic()
        self.watch.unkept(why)
        if self._told is None or now - self._told >= TOLD_EVERY_S:
            self._told = now
            self.say(f"checkpoints cannot be written now ({why}); it is tried again, and until then a kill costs more")
