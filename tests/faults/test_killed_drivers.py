"""A driver that is killed again and again: every row comes out once, and nothing is left behind."""

import contextlib
import random
import resource
import signal
import time

import psutil
import pytest

from orchestrator.results.ledger import Ledger
from tests.orchestrator.killed import POINTS

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 7

MAX_BYTES = 1 << 10
"""Not enough for a part."""

DRIVERS_POINTS = [point for point in POINTS if point != "ledger.after_write"]
"""The other is passed by whoever writes the part, which is not the driver."""

LOADING_S, LOOPING_S = 8.0, 3.0
"""Longest that a doomed call lives, from its start or from the loop's."""


def test_kills_lose_nothing_double_nothing_and_compute_nothing_again(run, orders):
    chance = random.Random(SEED)  # bench/soak.py goes on for as long as one likes

    def die_while_loading():
        call = run.call()
        time.sleep(chance.uniform(0, LOADING_S))
        call.kill()

    def die_in_the_loop(**how):
        begun = len(run.log("started"))
        call = run.call(**how)
        call.wait_for(lambda: len(run.log("started")) > begun)
        time.sleep(chance.uniform(0, LOOPING_S))
        call.kill()

    def meet_a_full_disk():
        call = run.call()
        while call.process.is_alive():
            bound_writers(run.cluster.process, MAX_BYTES)
            time.sleep(0.2)
        bound_writers(run.cluster.process, resource.RLIM_INFINITY)
        assert call.end() == 2 and "make room, then the same command goes on from here" in call.output, call.output

    def die_at(point):
        orders.give(point, 1)
        assert run.call().end() == -signal.SIGKILL
        assert point not in orders.open

    points = chance.sample(DRIVERS_POINTS, 2)
    lives = [die_while_loading, *(lambda point=point: die_at(point) for point in points), meet_a_full_disk]
    chance.shuffle(lives)
    die_in_the_loop(is_alone=True)
    for die in lives:
        die()
        run.audit.look()
        if chance.random() < 0.5:
            tear_the_manifest(run.folder)

    orders.give("solver.before_answer", 1)  # and the last call loses an actor, and two who write parts
    orders.give("ledger.after_write", 1)
    orders.give("writing.before_answer", 1)
    call = run.call()
    assert call.end() == 0, call.output
    assert [event["worker"] for event in run.log("actor_died")] == ["solver-0"] and not orders.open
    assert run.audit.conclude() == {}
    assert not (run.folder / "in_flight").exists()
    parts = {entry["part"] for entry in Ledger(run.folder).entries()}
    assert {path.name for path in (run.folder / "results").iterdir()} == parts, "what the dead left behind is gone"


def bound_writers(cluster, max_bytes):
    """Let no file grow beyond this that who writes a part writes, or may come to: Ray's idle processes too."""
    for process in cluster.children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if process.cmdline()[0].startswith(("ray::write", "ray::IDLE")):
                process.rlimit(psutil.RLIMIT_FSIZE, (max_bytes, resource.RLIM_INFINITY))


def tear_the_manifest(folder):
    """As a power cut in the middle of a commit would."""
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        with manifest.open("a") as lines:
            lines.write('{"part": "part-')
