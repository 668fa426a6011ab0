"""What is found out on an idle solver step by step, within a bound of time.

Owns: the bound, going on in slices. Must not know: what is found out.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Bounded(ABC, Generic[Found]):
    """Steps of a solver that come to something.

    Args:
        seconds: the bound.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._ends = time.monotonic() + seconds
        self._steps = self._walk()

    @property
    def seconds_left(self) -> float:
        """Until the bound."""
        return max(0.0, self._ends - time.monotonic())

    def advance(self, seconds: float) -> Found | None:
        """Go on for about `seconds`; what it comes to, once that is there."""
        until = time.monotonic() + seconds
        for _ in self._steps:
            if time.monotonic() >= until:
                return None
        return self._found()

    def whole(self) -> Found:
        """All of it at once."""
        for _ in self._steps:
            pass
        return self._found()

    @abstractmethod
    def _walk(self) -> Iterator[None]:
        """The steps; each looks to the bound itself."""

    @abstractmethod
    def _found(self) -> Found:
        """What the steps came to, all done."""
