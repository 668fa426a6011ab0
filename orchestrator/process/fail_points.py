"""Named places where a process kills itself, as a dying machine would kill it: a testing aid, inert by default.

Owns: the orders to die, and who takes them. Must not know: what happens at a place.

`VERBATIM_FAIL_POINTS` names a folder; a test puts orders into it, before a run or while it goes on, a file a place:

    ledger.after_rename  holding  2      who passes there a second time takes the file away and dies
    solver.takes         holding  row-7  who passes there with row-7 in its hands dies; the file stays
"""

import os
import signal
from collections import Counter
from pathlib import Path

VARIABLE = "VERBATIM_FAIL_POINTS"

_passed: Counter[str] = Counter()


def fail_point(name: str, key: str | None = None) -> None:
    """Die here if there is an order to.

    Args:
        key: what this process has in its hands, at a place that kills by it.
    """
    if (folder := os.environ.get(VARIABLE)) and _is_ordered(Path(folder, name), key):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_ordered(order: Path, key: str | None) -> bool:
    try:
        asked = order.read_text(encoding="utf-8")
        if key is not None:
            return asked == key
        _passed[order.name] += 1
        if _passed[order.name] < int(asked):
            return False
        order.unlink()
    except FileNotFoundError:  # no order, or another process was first
        return False
    return True
