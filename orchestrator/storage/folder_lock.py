"""One run at a time in a folder.

Owns: the lock that the operating system gives back when its holder dies. Must not know: what is written.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.console.errors import UserError

FILE = ".lock"
HOLDER = f"{FILE}.holder"
"""Says who holds the folder; a process that was killed leaves it behind."""


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the folder; it is made where it does not exist, and gone again if nothing was put into it.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The file stays when the lock is given back: deleting it would let two processes lock two files of one name.
    lock, holder = FileLock(folder / FILE), folder / HOLDER
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "another process"
        raise UserError(
            f"--out {folder}: {who} is writing there; wait for it, stop it, or choose another folder"
        ) from None
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
        if all(path.name == FILE for path in folder.iterdir()):
            (folder / FILE).unlink(missing_ok=True)
            folder.rmdir()


def holder(folder: Path) -> str | None:
    """Who holds the folder; None if nobody does, the holder having died included."""
    try:
        who = (folder / HOLDER).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    process, _, host = who.removeprefix("process ").partition(" on ")
    if host == socket.gethostname() and process.isdigit() and not _is_alive(int(process)):
        return None
    return who if _is_locked(folder / FILE) else None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_locked(file: Path) -> bool:
    """Whether somebody has the operating system's lock; a process may have another's id by now."""
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
