"""Runs whose driver or actors are killed: every row comes out once, and nothing is left behind."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from orchestrator.ledger import Ledger

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

WORDS = (
    ("The cat", "A dog", "Nobody"),
    ("sat", "ran", "slept", "sang"),
    ("here", "there", "inside", "outside"),
    ("now.", "then.", "too.", "alone.", "again."),
)
TEXTS = [" ".join(words) for words in itertools.product(*WORDS)]
"""With the small table below, more than the driver commits at once: a run is not over with its first commit."""

PATIENCE_S = 240


@pytest.fixture
def run(tmp_path, write_jsonl):
    """Start the run, or start it again, in a process of its own."""
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"text": text} for text in TEXTS])
    command = [
        *(sys.executable, "-m", "orchestrator.cli", "run", corpus, "--out", tmp_path / "run"),
        *("--engine", "hf", "--no-dashboard", "--token-budget", "160", "--lease", "20"),
        # Slow on purpose, and whatever the defaults are: a run that ends too soon cannot be stopped.
        *("--set", "num_vectors=8", "--set", "max_steps=300", "--set", "start.name=random", "--set", "optim.lr=0.3"),
    ]
    started = []

    def start():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def wait_for(process, condition):
    """The first true answer of `condition()` while the process lives."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"the run did not get there: {process.communicate() if process.poll() is not None else ''}")


def actors(process):
    """The run's actors by name, as the operating system sees them."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # gone, or about to be
            title = " ".join(child.cmdline())
            found |= {name: child for name in ("SolverActor", "VerifierActor") if name in title}
    return found


def stop(process, number):
    """Send a signal; what the run said, once it and its actors are gone."""
    computing = actors(process).values()
    assert len(computing) == 2
    os.kill(process.pid, number)
    said = process.communicate(timeout=PATIENCE_S)
    _, alive = psutil.wait_procs(computing, timeout=30)
    assert alive == []
    return said


def finish(process):
    """What the run said, once it has ended with every row verified."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


def kept(folder):
    """Rows whose attempt could go on after a kill."""
    return [path.stem for path in folder.glob("in_flight/*.safetensors")]


def state(folder):
    return json.loads((folder / "run.json").read_text())["state"]


def assert_every_row_came_out_once(folder):
    rows = list(Ledger(folder).read())
    assert sorted(row["row"] for row in rows) == list(range(len(TEXTS)))
    assert all(row["exact"] and row["text"] == TEXTS[row["row"]] for row in rows)
    assert state(folder) == "finished"


def test_a_stopped_run_leaves_no_actor_and_goes_on_from_its_rows(run, folder, contents):
    process = run()
    wait_for(process, lambda: len(kept(folder)) > 1)
    stop(process, signal.SIGKILL)
    assert state(folder) == "running"

    process = run()
    wait_for(process, Ledger(folder).committed_ids)
    out, err = stop(process, signal.SIGINT)
    assert "attempts go on from where they were" in out
    assert process.returncode == 130 and err == "interrupted; the same command goes on from here\n"
    assert state(folder) == "interrupted" and 0 < len(Ledger(folder).committed_ids()) < len(TEXTS)

    before = contents(folder)
    finish(run())
    assert not (folder / "in_flight").exists()
    after = contents(folder)
    assert_every_row_came_out_once(folder)
    parts = [name for name in before if name.endswith(".parquet")]
    assert {name: after[name] for name in parts} == {name: before[name] for name in parts}
    assert after["manifest.jsonl"].startswith(before["manifest.jsonl"])


def test_actors_that_die_or_hang_are_replaced_and_every_row_still_comes_out(run, folder):
    process = run()
    wait_for(process, (folder / "run.json").is_file)
    second = run()
    _, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 2 and f"process {process.pid} on" in err and "is writing there" in err
    first = actors(process)
    for actor in first.values():
        actor.kill()
    wait_for(process, lambda: kept(folder))
    hanging = actors(process)["SolverActor"]
    assert hanging != first["SolverActor"]
    hanging.suspend()  # as a driver that hangs in the kernel would
    out = finish(process)
    assert "solver-0 died; starting it anew" in out and "verifier died; starting it anew" in out
    assert "solver-0 died (no answer within its lease of 20 s); starting it anew" in out
    assert_every_row_came_out_once(folder)
