"""What a person sees while a command goes on: stages with their times, a count with its time left, 80 columns."""

import io
import time

import pytest
from rich.console import Console

from orchestrator.console import progress
from orchestrator.console.progress import Course, clock, count_lines, make_reporter, plain_line, shown


def plain(width=80):
    return Console(file=io.StringIO(), width=width)


def terminal(width=80):
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


@pytest.fixture
def passing(monkeypatch):
    """A clock that is set by hand: `passing(3.0)` lets so many seconds pass."""
    now = [float(int(time.monotonic()) + 1)]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def let_pass(seconds):
        now[0] += seconds

    return let_pass


def test_stages_that_took_long_leave_a_line_with_their_time(passing):
    console = plain()
    reporter = make_reporter(console, 3)
    reporter.stage("loading models")
    passing(2.0)
    reporter.stage("a glance")
    passing(0.1)
    reporter.update(0, "2 under way")
    assert console.file.getvalue() == "loading models, 2.0 s\n"


@pytest.mark.parametrize("make", [plain, terminal])
def test_what_is_said_before_the_count_is_known_waits_for_it(passing, make):
    console = make()
    reporter = make_reporter(console)
    reporter.stage("loading libraries")
    passing(3.0)
    reporter.stage("looking")
    reporter.say("a line")
    assert "3.0 s" not in console.file.getvalue() and "a line" not in console.file.getvalue()
    reporter.expect(7)
    assert console.file.getvalue().index("loading libraries, 3.0 s") < console.file.getvalue().index("a line")
    reporter.close()


def test_a_mistake_found_while_loading_stands_alone(passing):
    console = plain()
    with pytest.raises(ValueError), shown(console, "loading libraries"):
        passing(3.0)
        raise ValueError
    assert console.file.getvalue() == ""


def test_the_bar_keeps_count_elapsed_and_time_left_at_80_columns(passing):
    course = Course(1_000_000)
    course.count(0, "")
    passing(4000.0)
    course.count(250_000, "96 under way, 12 being judged, 11,204 positions/s\nrow-17: step 412, 33 of 34 tokens right")
    bar, *details = count_lines(course, 79)
    assert len(bar) == 79 and bar.startswith("250,000 of 1,000,000 texts ===")
    assert bar.endswith("--- 1:06:40, 3:20:00 left")
    assert details == ["96 under way, 12 being judged, 11,204 positions/s", "row-17: step 412, 33 of 34 tokens right"]
    assert plain_line(course) == "250,000 of 1,000,000 texts, 1:06:40, 3:20:00 left; " + "; ".join(details)


def test_the_time_left_is_that_of_this_call_alone(passing):
    course = Course(100)
    course.count(90, "")
    assert course.left_s is None
    passing(10.0)
    course.count(95, "")
    assert course.left_s == pytest.approx(10.0)


def test_a_terminal_sees_the_first_stage_at_once_and_no_line_is_too_wide():
    console = terminal(width=40)
    reporter = make_reporter(console)
    reporter.stage("loading libraries")
    reporter._live.refresh()
    assert "loading libraries ... 0 s" in console.file.getvalue()
    reporter.expect(5)
    reporter.update(2, "x" * 300)
    reporter._live.refresh()
    reporter.close()
    drawn = console.file.getvalue().replace("\x1b[2K", "\n").replace("\r", "\n").splitlines()
    assert any(line.startswith("2 of 5 texts") for line in drawn)
    assert max(len(line) for line in drawn if "x" in line) <= 40


def test_a_pipe_gets_a_line_every_ten_seconds(passing):
    console = plain(200)
    reporter = make_reporter(console, 4)
    for done in range(4):
        reporter.update(done, "busy")
        passing(progress.PLAIN_INTERVAL_S / 2)
    assert console.file.getvalue().splitlines() == ["2 of 4 texts, 0:10, 0:10 left; busy"]


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0:00"), (62, "1:02"), (3723, "1:02:03")])
def test_times_are_told_as_a_clock_does(seconds, told):
    assert clock(seconds) == told
