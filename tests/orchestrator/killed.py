"""A process that commits rows and is killed at a chosen point of a commit.

Imported by a fork server, so that many such processes cost one import.
"""

import os
import resource
import signal
from pathlib import Path

from orchestrator.process import fail_points
from orchestrator.results import compaction
from orchestrator.results.ledger import Ledger
from orchestrator.run.rows import result_row
from tests.orchestrator.made_up import ROW_CONTEXT, verified_item

IDS = tuple("abcdefg")

POINTS = ("ledger.before_write", "ledger.after_write", "ledger.after_rename", "ledger.after_line")


def commit_all(folder: Path, point: str | None = None, number: int = 1) -> None:
    """Commit what is not committed yet, two rows a part; die at the n-th pass of a point."""
    if point is not None:
        os.environ[fail_points.VARIABLE] = str(folder)
        (folder / point).write_text(str(number))
    ledger = Ledger(folder)
    left = [id for id in IDS if id not in ledger.committed_ids()]
    for first in range(0, len(left), 2):
        ledger.commit([result_row(verified_item(id, row=IDS.index(id)), ROW_CONTEXT) for id in left[first : first + 2]])


def merge_parts(folder: Path, point: str | None = None, number: int = 1) -> None:
    """Merge the folder's parts by twos, however few they are; die at the n-th pass of a point."""
    if point is not None:
        os.environ[fail_points.VARIABLE] = str(folder)
        (folder / point).write_text(str(number))
    largest = max(path.stat().st_size for path in (folder / "results").iterdir())
    compaction.FEWEST, compaction.PART_BYTES = 2, largest * 5 // 2
    compaction.compact(folder)


def commit_to_a_full_disk(folder: Path) -> None:
    """Commit where no file may grow beyond 2 KiB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
    try:
        commit_all(folder)
    except OSError:
        os._exit(1)
