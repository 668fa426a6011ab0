"""A run sent as a job to a real cluster of one node, with token authentication, through the command line."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from orchestrator import doctor
from tests.deploy.conftest import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

START_S = 120
TEXTS = "The cat sat on the mat.\nIt was late.\nShe made tea.\nA dog ran home.\n"


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its dashboard, and the environment of those who may use it."""

    url: str
    env: dict[str, str]


def free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def stop(process: subprocess.Popen, folder: Path) -> None:
    """End what this cluster started, and only that: the process's children, and who was started for its folder."""
    mine = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for other in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in other.info["cmdline"] or []):
            mine.append(other)
    for child in mine:
        try:
            child.terminate()
        except psutil.NoSuchProcess:
            pass
    _, alive = psutil.wait_procs(mine, timeout=15)
    for child in alive:
        child.kill()
    psutil.wait_procs(alive, timeout=15)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Its own temporary folder: else every `ray.init()` on the machine would find and join this cluster. And a short
    # one, for the sockets in it.
    folder = Path(tempfile.mkdtemp(prefix="vb", dir="/tmp"))
    port, gcs = free_port(), free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs find `verbatim` there
        "OMP_NUM_THREADS": "1",
    }
    command = [
        *("ray", "start", "--head", "--block", f"--temp-dir={folder}", f"--port={gcs}", "--num-cpus=1"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--dashboard-agent-listen-port=0"),
        *(f"--ray-client-server-port={free_port()}", "--disable-usage-stats"),
    ]
    with (folder / "start.log").open("w") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + START_S
            while not answers(f"http://127.0.0.1:{port}/api/gcs_healthz"):
                assert process.poll() is None and time.monotonic() < deadline, (folder / "start.log").read_text()
                time.sleep(0.5)
            yield Cluster(f"http://127.0.0.1:{port}", env)
        finally:
            stop(process, folder)
            shutil.rmtree(folder, ignore_errors=True)


def submit(cluster: Cluster, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", "submit", *map(str, arguments), "--address", cluster.url]
    return subprocess.run(command, env=cluster.env | env, cwd=ROOT, capture_output=True, text=True, timeout=400)


def test_a_run_goes_to_a_cluster_as_a_job_and_is_watched_to_its_end(cluster, tmp_path):
    corpus, out = tmp_path / "four.txt", tmp_path / "results"
    corpus.write_text(TEXTS)
    ended = submit(cluster, corpus, "--out", out, "--engine", "hf", "--set", "num_vectors=16")
    assert ended.returncode == 0, ended
    assert "4 of 4 exact on hf" in ended.stdout and "SUCCEEDED" in ended.stdout
    (part,) = (out / "results").iterdir()
    rows = pq.read_table(part).to_pylist()
    assert [row["exact"] for row in rows] == [True] * 4

    # One that is refused over there ends here with its code.
    other = submit(cluster, corpus, "--out", out, "--engine", "hf", "--set", "num_vectors=8")
    assert other.returncode == 2 and "holds another run" in other.stdout and "FAILED" in other.stdout, other


def test_without_the_token_there_is_one_line(cluster, tmp_path):
    for env in ({"RAY_AUTH_TOKEN": "wrong"}, {"RAY_AUTH_MODE": "disabled"}):
        ended = submit(cluster, "/data/corpus.txt", "--out", tmp_path / "out", **env)
        (line,) = ended.stderr.splitlines()
        assert ended.returncode == 2 and "asks for another token; export RAY_AUTH_MODE=token" in line


def test_doctor_has_nothing_against_a_dashboard_on_loopback(cluster):
    assert doctor.find_open_dashboard([cluster.url]) is None
