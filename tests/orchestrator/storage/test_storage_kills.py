"""Processes that race to commit to an object store and are killed on the way: every row ends up there, none twice."""

import multiprocessing
import signal

import pytest

from orchestrator.results.ledger import Ledger
from orchestrator.storage import open_storage
from tests.orchestrator import bucket, killed
from tests.orchestrator.bucket import IDS, commit_what_is_left

POINTS = ("ledger.before_write", "ledger.after_rename", "ledger.after_line")


@pytest.fixture(scope="module")
def start():
    """`start(target, *args)`: it runs in a process of its own."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([killed.__name__, bucket.__name__])

    def run(target, *args):
        process = server.Process(target=target, args=args)
        process.start()
        return process

    return run


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_racing_processes_lose_nothing_and_double_nothing(point, tmp_path, start):
    place, orders = bucket.uri(tmp_path / "run"), tmp_path / "orders"
    orders.mkdir()
    (orders / point).write_text("2")
    first = start(commit_what_is_left, place, orders)
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    done = [row["id"] for row in Ledger(place).read()]
    assert done == list(IDS[: 4 if point == "ledger.after_line" else 2])

    (orders / point).write_text("2")  # one of the next dies as well, whoever is there first
    others = [start(commit_what_is_left, place, orders) for _ in range(3)]
    for process in others:
        process.join(60)
    assert sorted(process.exitcode or 0 for process in others) == [-signal.SIGKILL, 0, 0]
    ids = [row["id"] for row in Ledger(place).read()]
    assert ids[: len(done)] == done and sorted(ids) == list(IDS)
    named = {entry["part"] for entry in Ledger(place).entries()}
    orphans = set(open_storage(place).names("results")) - named
    assert named and (orphans or point != "ledger.after_rename"), "a part was written and not committed"
