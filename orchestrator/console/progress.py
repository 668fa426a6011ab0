"""Progress for a person: stages of the start with their times, then a count with its time left.

Owns: what is shown while a command goes on. Must not know: how it works.

On a terminal two or three lines are drawn over and over; in a pipe or a log there is a line now and then.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator.console.terminal import cell, cut_off, say

PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines where nothing can be drawn over."""

WORTH_A_LINE_S = 0.5
"""A stage that took less leaves no line behind."""

WIDEST = 100
"""Columns of the bar's line on a wide terminal."""

FULL, EMPTY = "\N{BOX DRAWINGS HEAVY HORIZONTAL}", "\N{BOX DRAWINGS LIGHT HORIZONTAL}"


class Reporter(Protocol):
    """Shows how far a command is.

    Attributes:
        seconds: since the command began.
    """

    @property
    def seconds(self) -> float: ...
    def say(self, message: str) -> None:
        """A line that stays."""
        ...

    def stage(self, name: str) -> None:
        """What goes on from here; the stage before it has ended."""
        ...

    def note(self, detail: str) -> None:
        """How far the stage is."""
        ...

    def expect(self, total: int) -> None:
        """How many there will be."""
        ...

    def update(self, done: int, detail: str) -> None:
        """So many are done; lines of detail. Ends the last stage."""
        ...

    def close(self) -> None: ...


@dataclass
class Course:
    """Where a command stands: in a stage, or at a count.

    Attributes:
        total: to be done; None while that is being found out.
        stage: under way; None while counting.
        detail: lines about what is under way.
    """

    total: int | None
    stage: str | None = None
    detail: str = ""
    done: int = 0
    _began: float = field(default_factory=lambda: time.monotonic())
    _stage_began: float = 0.0
    _count_began: float | None = None
    _done_before: int = 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    @property
    def is_counting(self) -> bool:
        """Whether there has been a count."""
        return self._count_began is not None

    @property
    def stage_seconds(self) -> float:
        return time.monotonic() - self._stage_began

    @property
    def left_s(self) -> float | None:
        """Seconds to come at the rate so far; None before anything was done."""
        if self._count_began is None or self.done <= self._done_before:
            return None
        took = time.monotonic() - self._count_began
        return took / (self.done - self._done_before) * max(0, (self.total or 0) - self.done)

    def enter(self, stage: str | None) -> str | None:
        """Begin a stage; the line of the one that ends, if it took long enough for one."""
        told = None
        if self.stage is not None and self.stage_seconds >= WORTH_A_LINE_S:
            told = f"{self.stage}, {self.stage_seconds:.1f} s"
        self.stage, self.detail, self._stage_began = stage, "", time.monotonic()
        return told

    def count(self, done: int, detail: str) -> str | None:
        """So many are done; the line of a stage that ends with that."""
        told = self.enter(None) if self.stage is not None else None
        if self._count_began is None:
            self._count_began, self._done_before = time.monotonic(), done
        self.done, self.detail = done, detail
        return told


class PlainReporter:
    """One line at a time, for logs and pipes.

    Until it is known how many there will be, lines are held back: a mistake is to be told in one line alone.
    """

    def __init__(self, console: Console, total: int | None):
        self._console, self._course = console, Course(total)
        self._held_back: list[str] = []
        self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._course.seconds

    def say(self, message: str) -> None:
        if self._course.total is None:
            self._held_back.append(message)
        else:
            say(self._console, message)

    def stage(self, name: str) -> None:
        self._say_if(self._course.enter(name))

    def note(self, detail: str) -> None:
        self._course.detail = detail
        self._now_and_then(f"{self._course.stage}: {detail}")

    def expect(self, total: int) -> None:
        self._course.total = total
        while self._held_back:
            self.say(self._held_back.pop(0))

    def update(self, done: int, detail: str) -> None:
        self._say_if(self._course.count(done, detail))
        self._now_and_then(plain_line(self._course))

    def close(self) -> None:
        self._say_if(self._course.enter(None))

    def _now_and_then(self, line: str) -> None:
        if time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._last = time.monotonic()
            self.say(line)

    def _say_if(self, line: str | None) -> None:
        if line is not None:
            self.say(line)


class LiveReporter(PlainReporter):
    """The same, with lines that are drawn over in the place of those now and then."""

    def __init__(self, console: Console, total: int | None):
        super().__init__(console, total)
        self._live = Live(get_renderable=self._drawn, console=console, transient=True, refresh_per_second=8)
        self._live.start()

    def close(self) -> None:
        super().close()
        self._live.stop()

    def _now_and_then(self, line: str) -> None:
        """What is drawn says it all the time."""

    def _drawn(self) -> Group:
        width = min(WIDEST, self._console.width - 1)
        if self._course.stage is not None:
            lines = [cell(line) for line in stage_lines(self._course)]
        elif not self._course.is_counting:
            lines = []
        else:
            bar, *details = count_lines(self._course, width, *_bar(self._console))
            lines = [_coloured(bar), *map(cell, details)]
        for line in lines:
            line.truncate(width, overflow=cut_off(self._console))
        return Group(*lines)


def make_reporter(console: Console, total: int | None = None) -> Reporter:
    """The reporter that fits the console."""
    return LiveReporter(console, total) if console.is_terminal else PlainReporter(console, total)


@contextmanager
def shown(console: Console, stage: str) -> Iterator[None]:
    """A stage of a command that shows no other; nothing stays of it, and nothing is said in a pipe."""
    reporter = make_reporter(console)
    try:
        reporter.stage(stage)
        yield
    finally:
        reporter.close()


def stage_lines(course: Course) -> list[str]:
    """What goes on, for how long, and how far it is."""
    return [f"{course.stage} ... {course.stage_seconds:.0f} s", *course.detail.splitlines()]


def count_lines(course: Course, width: int, full: str = "=", empty: str = "-") -> list[str]:
    """A bar between the count and its times, and the details below."""
    total = course.total or 0
    count, times = f"{course.done:,} of {total:,} texts ", f" {clock(course.seconds)}, {_left(course)}"
    room = max(0, width - len(count) - len(times))
    filled = room * course.done // max(1, total)
    return [count + full * filled + empty * (room - filled) + times, *course.detail.splitlines()]


def plain_line(course: Course) -> str:
    """All of it in one line."""
    details = "; ".join(course.detail.splitlines())
    return f"{course.done:,} of {course.total or 0:,} texts, {clock(course.seconds)}, {_left(course)}; {details}"


def clock(seconds: float) -> str:
    """`1:02`, or `3:01:02` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _left(course: Course) -> str:
    return "time left not known yet" if course.left_s is None else f"{clock(course.left_s)} left"


def _bar(console: Console) -> tuple[str, str]:
    return ("=", "-") if console.options.ascii_only else (FULL, EMPTY)


def _coloured(bar: str) -> Text:
    line = cell(bar)
    line.highlight_regex(f"[={FULL}]+", "green")
    line.highlight_regex(f"[-{EMPTY}]+", "bright_black")
    return line
