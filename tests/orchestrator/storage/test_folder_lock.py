"""One run at a time in a folder, whatever became of the one before."""

import os
import signal
import subprocess
import sys

import pytest

from orchestrator.console.errors import UserError
from orchestrator.storage.folder_lock import sole_writer

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
