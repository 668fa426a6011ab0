"""How a command ends: the user's mistakes and what else stopped it as one line, each with its exit code.

Owns: which error is told how. Must not know: verbs. `cli` lists the exit codes.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from orchestrator.console.errors import FleetError, StorageError, UserError
from orchestrator.console.terminal import never_fail_to_encode, one_line
from orchestrator.process import interrupts

NOT_OURS = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""A place that cannot be what it was given for, or not for this user."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""A disk that is full, or takes no more from this user."""


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """The user's mistakes as one line on standard error and exit code 2; actors that keep dying as one and 1."""
    never_fail_to_encode()
    try:
        with interrupts.interruptible():
            yield
    except (FleetError, StorageError) as error:
        print(f"error: {one_line(error)}; what was committed stays, run it again", file=sys.stderr)
        raise typer.Exit(1) from None
    except OSError as error:
        if error.errno not in (*NO_ROOM, *NOT_OURS):
            raise
        place = f" ({one_line(error.filename)})" if error.filename else ""
        room = "make room, then the same command goes on from here"
        remedy = "choose another place" if error.errno in NOT_OURS else room
        print(f"error: {error.strerror}{place}; {remedy}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(interrupts.exit_code()) from None
    except Exception as error:
        if not isinstance(error, UserError) and not _is_mistake(error):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise typer.Exit(2) from None


def _is_mistake(error: Exception) -> bool:
    """Whether the engine calls it the user's; asked only then, because the engine takes seconds to import."""
    from engine.decoding import DecodingError
    from engine.model_source import ModelError
    from engine.settings import SettingsError

    return isinstance(error, (ModelError, SettingsError, DecodingError))
