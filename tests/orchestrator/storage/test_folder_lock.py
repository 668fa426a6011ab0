"""One run at a time in a folder, whatever became of the one before."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from orchestrator.console.errors import UserError
from orchestrator.storage.folder_lock import HOLDER, sole_writer
from orchestrator.storage.folder_lock import holder as writer_of

HOLD = """
import sys, time
from pathlib import Path
from orchestrator.storage.folder_lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder `run`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_writer_is_refused_and_told_who_is_first(holder, tmp_path):
    with pytest.raises(UserError, match=rf"process {holder.pid} on .* is writing there; wait for it"):
        with sole_writer(tmp_path / "run"):
            raise AssertionError("two writers")


def test_a_killed_writer_leaves_the_folder_free(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with sole_writer(tmp_path / "run"):
        (tmp_path / "run" / "kept").touch()
    assert (tmp_path / "run" / "kept").exists()


def test_a_folder_nothing_was_put_into_is_gone_again(tmp_path):
    with pytest.raises(KeyError), sole_writer(tmp_path / "run"):
        raise KeyError
    assert not (tmp_path / "run").exists()


def test_who_writes_is_told_from_who_was_killed(holder, tmp_path):
    run = tmp_path / "run"
    assert writer_of(run).startswith(f"process {holder.pid} on ")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (run / HOLDER).is_file() and writer_of(run) is None
    assert writer_of(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "process", [f"process {os.getpid()} on {socket.gethostname()}", "process 1 on elsewhere"], ids=["here", "elsewhere"]
)
def test_a_process_that_has_the_number_of_a_dead_writer_is_not_it(tmp_path, process):
    (tmp_path / ".lock").touch()
    (tmp_path / HOLDER).write_text(process)
    assert writer_of(tmp_path) is None
