"""A search on a cluster that takes from it what it has and gives it more: every trial comes to its end.

Real nodes, real actors, the pocket model, the command as its user has it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import optuna
import pytest
import ray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

from orchestrator.fleet import workers
from orchestrator.results.run_log import read_events
from tune_spaces.cli import app
from tune_spaces.study import ended_trials

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
SOON_DEAD = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 5}
NUM_TRIALS = 10
NEVER = ["num_vectors=4", "attempts=1", "max_steps=100000", "stop_margin=30", "loss.margin=30"]
"""A base under which no text is ever done, so that each trial lasts as long as its budget."""

ACTORS = ("solver-0", "solver-1", "verifier-0")
PATIENCE_S = 120


@pytest.fixture(scope="module")
def cluster():
    """A head and a node beside it, with a processor each, and this process connected to them."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": SOON_DEAD})
    cluster.add_node(**NODE)
    workers.connect(cluster.address, dashboard=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def search(cluster, tmp_path_factory):
    """A search under way on the cluster, and its folder."""
    folder = tmp_path_factory.mktemp("cluster")
    corpus = folder / "corpus.txt"
    corpus.write_text("".join(f"The {who} sat {where}.\n" for who in ("cat", "dog") for where in ("here", "there")))
    command = [sys.executable, "-m", "tune_spaces.cli", "tune", corpus, "--out", folder / "search", "--engine", "hf"]
    command += ["--address", cluster.address, "--trials", NUM_TRIALS, "--texts", 4, "--hold-out", 0, "--budget", 100]
    command += ["--sampler", "random", "--stopping", "none", "--concurrent", 4]
    for value in NEVER:
        command += ["--set", value]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield process, folder / "search"
    process.kill()
    process.communicate()


def wait_until(process, condition):
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() < end, process.communicate(timeout=10)
        time.sleep(0.1)
    return found


def home_of(process, name):
    """Where an actor of the search runs, by its name; None while it is not there."""
    try:
        return ray.get(ray.get_actor(f"search-{process.pid}/{name}").home.remote(), timeout=30)
    except (ValueError, ray.exceptions.RayError):
        return None


def workers_of(folder, event):
    return {told["worker"] for told in read_events(folder, event)}


def test_a_search_that_loses_and_gains_solvers_verifier_and_nodes_ends_with_every_trial(cluster, search):
    process, folder = search
    spare = cluster.worker_nodes.copy().pop()
    wait_until(process, lambda: list(read_events(folder, "started")))
    homes = {name: wait_until(process, partial(home_of, process, f"{name}/0")) for name in ACTORS}
    assert len({homes["solver-0"].node_id, homes["solver-1"].node_id}) == 2, "a processor each"
    lost = "solver-0" if homes["solver-0"].node_id == spare.node_id else "solver-1"
    killed = "solver-1" if lost == "solver-0" else "solver-0"

    cluster.add_node(**NODE)
    os.kill(homes[killed].pid, signal.SIGKILL)
    os.kill(homes["verifier-0"].pid, signal.SIGKILL)
    wait_until(process, lambda: workers_of(folder, "actor_replaced") >= {killed, "verifier-0"})
    wait_until(process, lambda: "solver-2" in workers_of(folder, "solved"))
    cluster.remove_node(spare, allow_graceful=False)
    wait_until(process, lambda: lost in workers_of(folder, "actor_replaced"))

    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out
    assert "the cluster has grown: 3 solvers" in out
    assert f"{lost} died with its node; starting it anew" in out
    study = optuna.load_study(
        study_name=None, storage=JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    )
    assert [trial.state for trial in ended_trials(study)] == [TrialState.COMPLETE] * NUM_TRIALS
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    assert not list(read_events(folder, "poisoned"))


def test_its_status_tells_all_of_it(search):
    status = json.loads(CliRunner().invoke(app, ["status", str(search[1]), "--json"]).stdout)
    assert (status["state"], status["num_ended"], status["num_trials"]) == ("finished", NUM_TRIALS, NUM_TRIALS)
    assert status["last_event"]["event"] == "committed"
