"""SIGINT and SIGTERM: the first asks a command to end well, the second ends it at once.

Owns: this process's handlers for both. Must not know: what ending well takes.

The first is raised as KeyboardInterrupt, at the end of `held` where it comes inside. After it both signals do what the
operating system does by default, so that a second one ends even a process that hangs in a library.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

ECHO_S = 0.05
"""Seconds in which a second signal is the first one's echo: `timeout` sends it to a process and then to its group."""


@dataclass
class _State:
    """What has come so far.

    Attributes:
        handled: the signals that are ours, with their handlers before.
        first: the first that came.
        is_due: it came inside `held` and has not been raised.
    """

    handled: dict[int, Any] = field(default_factory=dict)
    first: int | None = None
    is_held: bool = False
    is_due: bool = False


_state = _State()


@contextmanager
def interruptible() -> Iterator[None]:
    """Handle both signals inside; one that is ignored, as in a shell's background, stays ignored."""
    global _state
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _state = _State({number: handler for number, handler in before.items() if handler is not signal.SIG_IGN})
    take_over()
    try:
        yield
    finally:
        _set(_state.handled)
        _state.handled = {}


def take_over() -> None:
    """Set the handlers again where a library has put its own, as `ray.init` does; nothing outside `interruptible`."""
    _set(dict.fromkeys(_state.handled, _handle))


@contextmanager
def held() -> Iterator[None]:
    """Let nothing be interrupted inside: the first signal is raised at the end."""
    _state.is_held = True
    try:
        yield
    finally:
        _state.is_held = False
    if _state.is_due:
        _state.is_due = False
        raise KeyboardInterrupt


def exit_code() -> int:
    """What a process that was interrupted ends with: 130 after SIGINT, 143 after SIGTERM."""
    return 128 + (_state.first or signal.SIGINT)


def _handle(number: int, _: object) -> None:
    if _state.first is not None:
        return
    _state.first = number
    time.sleep(ECHO_S)
    _set(dict.fromkeys(_state.handled, signal.SIG_DFL))
    _state.is_due = _state.is_held
    if not _state.is_held:
        raise KeyboardInterrupt


def _set(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
