"""Signals to a process: the first is an exception at a safe place, the second the end."""

import os
import signal
import subprocess
import sys

import pytest

from orchestrator.process import interrupts
from orchestrator.process.interrupts import SIGNALS, held, interruptible

CODE = """
import sys, time
from orchestrator.process.interrupts import held, interruptible
with interruptible(), held():
    while True:
        print("held", flush=True)
        time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def handlers():
    """Those before, which a test must find again."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_raised_where_it_comes(number, code):
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert interrupts.exit_code() == code


def test_inside_held_it_waits_for_the_end():
    steps = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        with held():
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("finished")
        steps.append("not reached")
    assert steps == ["finished"]


def test_an_error_inside_held_is_not_hidden():
    with pytest.raises(OSError, match="full"), interruptible(), held():
        os.kill(os.getpid(), signal.SIGTERM)
        raise OSError("full")


def test_a_handler_that_a_library_set_is_taken_over():
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        interrupts.take_over()
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_second_signal_ends_the_process_wherever_it_is():
    with subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            for _ in range(10):  # longer than an echo lasts
                assert process.stdout.readline() == "held\n"
            process.send_signal(number)
        assert process.wait(30) == -signal.SIGTERM
