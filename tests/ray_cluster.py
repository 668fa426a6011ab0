"""A real Ray cluster of one node beside the tests, with token authentication and a dashboard.

Owns: its start, and that nothing of it is left. Must not know: what runs on it.
"""

import contextlib
import os
import secrets
import shutil
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

START_S = 120


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        url: of its dashboard.
        address: as `--address` takes it.
        env: the environment of those who may use it.
        process: its parent, `ray start`.
    """

    url: str
    address: str
    env: dict[str, str]
    process: psutil.Process


@contextlib.contextmanager
def ray_cluster(**variables: str) -> Iterator[Cluster]:
    """Start a cluster whose processes see `variables`, those here replaced; stop it at the end."""
    # Its own temporary folder: else every `ray.init()` on the machine would find and join this cluster. And a short
    # one, for the sockets in it.
    folder = Path(tempfile.mkdtemp(prefix="vb", dir="/tmp"))
    dashboard, gcs = f"127.0.0.1:{free_port()}", free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs find `verbatim` there
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",  # as in tests/conftest.py
        **variables,
    }
    command = [
        *("ray", "start", "--head", "--block", f"--temp-dir={folder}", f"--port={gcs}", "--num-cpus=1"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard.split(':')[1]}"),
        *("--dashboard-agent-listen-port=0", f"--ray-client-server-port={free_port()}", "--disable-usage-stats"),
    ]
    with (folder / "start.log").open("w") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + START_S
            while not answers(f"http://{dashboard}/api/gcs_healthz"):
                assert process.poll() is None and time.monotonic() < deadline, (folder / "start.log").read_text()
                time.sleep(0.5)
            yield Cluster(f"http://{dashboard}", f"127.0.0.1:{gcs}", env, psutil.Process(process.pid))
        finally:
            stop(process, folder)
            shutil.rmtree(folder, ignore_errors=True)


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
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for other in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in other.info["cmdline"] or []):
            mine.append(other)
    for child in mine:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    _, alive = psutil.wait_procs(mine, timeout=15)
    for child in alive:
        child.kill()
    psutil.wait_procs(alive, timeout=15)
