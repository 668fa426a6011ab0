"""A process that commits rows and kills itself at a chosen point of a commit.

Imported by a fork server, so that a hundred such processes cost one import.
"""

import json
import os
import resource
import signal
from pathlib import Path

import pyarrow.parquet as pq

from orchestrator.ledger import Ledger
from orchestrator.rows import result_row
from tests.orchestrator.made_up import ROW_CONTEXT, verified_item

IDS = tuple("abcdefg")

POINTS = {
    "part written": (pq, "write_table"),
    "part, folder or manifest synced": (os, "fsync"),
    "part renamed": (Path, "replace"),
    "line made": (json, "dumps"),
}


def commit_all(folder: Path, point: str | None = None, number: int = 1) -> None:
    """Commit what is not committed yet, two rows a part; die before or after the n-th call at a point."""
    if point is not None:
        when, name = point.split(" ", 1)
        owner, attribute = POINTS[name]
        setattr(owner, attribute, _deadly(getattr(owner, attribute), number, is_after=when == "after"))
    ledger = Ledger(folder)
    left = [id for id in IDS if id not in ledger.committed_ids()]
    for first in range(0, len(left), 2):
        ledger.commit([result_row(verified_item(id, row=IDS.index(id)), ROW_CONTEXT) for id in left[first : first + 2]])


def commit_to_a_full_disk(folder: Path) -> None:
    """Commit where no file may grow beyond 2 KiB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
    try:
        commit_all(folder)
    except OSError:
        os._exit(1)


def _deadly(real, number, *, is_after):
    calls = []

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) == number and not is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **kwargs)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return call
