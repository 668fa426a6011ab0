"""A run sent as a job to a real cluster of one node, with token authentication, through the command line."""

import subprocess
import sys
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest

from orchestrator.doctor import machine
from tests.deploy.conftest import ROOT
from tests.ray_cluster import Cluster, ray_cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

TEXTS = "The cat sat on the mat.\nIt was late.\nShe made tea.\nA dog ran home.\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster() as it:
        yield it


def submit(cluster: Cluster, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tune_spaces.cli", "submit", *map(str, arguments), "--address", cluster.url]
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
    assert machine.find_open_dashboard([cluster.url]) is None
