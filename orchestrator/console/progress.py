"""Progress for a person: a live bar on a terminal, a plain line now and then elsewhere.

Owns: what is shown while a run goes on. Must not know: how the run works.
"""

import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.console.terminal import printable, say

PLAIN_INTERVAL_S = 10.0


class Reporter(Protocol):
    """Shows how far a run is."""

    def say(self, message: str) -> None: ...
    def update(self, done: int, detail: str) -> None: ...
    def close(self) -> None: ...


class BarReporter:
    """A bar that redraws itself."""

    def __init__(self, console: Console, total: int):
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("texts", total=total, detail="")
        self._progress.start()

    def say(self, message: str) -> None:
        say(self._progress.console, message)

    def update(self, done: int, detail: str) -> None:
        self._progress.update(self._task, completed=done, detail=printable(detail))

    def close(self) -> None:
        self._progress.stop()


class PlainReporter:
    """One line at a time, for logs and pipes."""

    def __init__(self, console: Console, total: int):
        self._console, self._total = console, total
        self._started = self._last = time.monotonic()

    def say(self, message: str) -> None:
        say(self._console, message)

    def update(self, done: int, detail: str) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL_S:
            self._last = now
            self.say(f"{done} of {self._total} texts, {now - self._started:.0f} s, {detail}")

    def close(self) -> None:
        pass


def make_reporter(console: Console, total: int) -> Reporter:
    """The reporter that fits the console."""
    return BarReporter(console, total) if console.is_terminal else PlainReporter(console, total)
