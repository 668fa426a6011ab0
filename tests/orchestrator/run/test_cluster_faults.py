"""A cluster that grows, shrinks, drains and fails under a run: every row comes out once, and exact ones are judged."""

import re
import time
from pathlib import Path

import psutil
import pytest
import ray
from ray.core.generated import autoscaler_pb2

from engine.model_source import ModelError
from orchestrator.cluster.nodes import memory_of, nodes
from orchestrator.console.errors import UserError
from orchestrator.work.work_queue import TOO_LARGE
from tests.orchestrator.run.conftest import LEFT_BY_RAY, NODE, QUICK, TEXTS, job, look, solved_by, solver, start_all

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600), LEFT_BY_RAY]


def drain(cluster, node):
    """What a spot machine's notice becomes in Ray, or `ray drain-node`."""
    deadline_ms = int((time.time() + 60) * 1000)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    assert ray._raylet.GcsClient(address=cluster.address).drain_node(node.node_id, reason, "", deadline_ms)[0]


def data_bytes(pid):
    """What a process holds as the kernel's limit on data counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmData:\s+(\d+) kB", status)[1]) << 10


def on(roster, node_id):
    """The solver of the roster that runs there."""
    return next(worker for worker in roster.solvers if worker.home.node_id == node_id)


def test_a_node_joins_mid_run_and_its_solver_takes_work_from_the_one_that_had_it_all(
    cluster, hire, play, story, tmp_path
):
    roster = hire(has_room=len)

    def grow():
        cluster.add_node(**NODE)
        look(roster, lambda: len(roster.solvers) == 2)
        start_all(roster)

    story.then(grow)
    rows = play(roster)
    assert all(row["exact"] for row in rows.values())
    assert "the cluster has grown: 2 solvers" in story.said
    assert solved_by(tmp_path) == {"solver-0", "solver-1"}


def test_a_node_that_is_drained_hands_its_texts_on_with_what_was_done(cluster, second_seat, hire, play, story):
    roster = hire(2)
    start_all(roster)
    leaving = on(roster, second_seat.node_id)

    def leave():
        drain(cluster, second_seat)
        look(roster, lambda: leaving.leaves_since is not None)

    def be_gone():
        cluster.remove_node(second_seat)
        cluster.add_node(**NODE)

    story.then(leave)
    story.then(be_gone, when=lambda: leaving.leaves_since is None)
    rows = play(roster)
    assert all(row["exact"] for row in rows.values())
    assert f"{leaving.name} leaves: its node is being drained" in story.said
    assert (leaving.num_replacements, leaving.num_deaths) == (1, 0)
    assert not any("died" in said for said in story.said), story.said


def test_a_node_that_vanishes_costs_no_life_and_casts_no_suspicion(cluster, second_seat, hire, play, story, tmp_path):
    roster = hire(2)
    start_all(roster)
    lost = on(roster, second_seat.node_id)
    story.then(lambda: cluster.remove_node(second_seat, allow_graceful=False))
    rows = play(roster)
    assert all(row["exact"] for row in rows.values())
    assert f"{lost.name} died with its node; starting it anew" in story.said
    assert lost.num_deaths == 0 and "poisoned" not in (tmp_path / "log.jsonl").read_text()


def test_a_stopped_actor_is_replaced_and_its_process_is_gone(hire, play, story):
    roster = hire()
    stopped = []

    def hang():
        stopped.append(psutil.Process(roster.solvers[0].home.pid))
        stopped[0].suspend()

    story.then(hang)
    rows = play(roster, lease_s=6)
    assert all(row["exact"] for row in rows.values())
    assert "solver-0 died (no answer within its lease of 6 s); starting it anew (2 of 4)" in story.said
    assert psutil.wait_procs(stopped, timeout=30)[1] == []


def test_a_solver_that_runs_out_of_memory_takes_less_at_once(hire, play, story, tokens):
    roster = hire()
    roster.first_ready()
    actor, process = roster.solvers[0].actor, psutil.Process(roster.solvers[0].home.pid)
    ray.get(
        actor.advance.remote([job(tokens, "warm", "Hi.", QUICK)], 60.0)
    )  # all threads have begun, with their stacks
    limit = data_bytes(process.pid) + (40 << 20)  # about 300 positions
    process.rlimit(psutil.RLIMIT_DATA, (limit, limit))
    many = [f"{text} {number} times" for text in TEXTS for number in ("Two", "Six", "Ten")]
    huge = " ".join(3 * many)  # nor where its layers compute again in backward what they need
    rows = play(roster, [*many, huge], QUICK)
    assert rows.pop(huge)["reason"] == TOO_LARGE
    assert all(row["exact"] for row in rows.values())
    assert any("ran out of memory" in said for said in story.said), story.said
    assert process.is_running() and roster.solvers[0].num_replacements == 0


def test_an_error_inside_an_actor_costs_that_actor_alone(hire, play, story):
    roster = hire()
    broken = lambda actor: setattr(actor._solver, "lm", None)  # noqa: E731
    story.then(lambda: ray.get(roster.solvers[0].actor.__ray_call__.remote(broken)))
    rows = play(roster)
    assert all(row["exact"] for row in rows.values())
    assert roster.solvers[0].num_replacements == 1
    (told,) = [said for said in story.said if "died" in said]
    assert told.startswith("solver-0 died (AttributeError: ") and told.endswith("; starting it anew (2 of 4)")


def test_a_solver_with_other_weights_is_let_go_and_the_run_goes_on(second_seat, hire, play, story):
    roster = hire(has_room=len, start=lambda index: solver(index, dtype=("float32", "bfloat16")[index]))

    def grow():
        look(roster, lambda: len(roster.solvers) == 2)
        start_all(roster)

    story.then(grow)
    rows = play(roster, TEXTS[:4])
    assert all(row["exact"] for row in rows.values())
    assert [worker.name for worker in roster.solvers] == ["solver-0"]
    assert any(said.startswith("solver-1 is let go: the model's weights differ") for said in story.said), story.said


def test_a_run_whose_only_solver_holds_other_weights_ends_with_the_reason(hire):
    with pytest.raises(UserError, match="the model's weights differ .*v2-other.* and "):
        hire(fingerprint="v2-other").first_ready()


def test_a_model_that_cannot_be_loaded_is_told_as_such(hire):
    roster = hire(start=lambda index: solver(index, model="no/such/model"))
    with pytest.raises(ModelError, match="no/such/model"):
        roster.first_ready()
    assert roster.solvers[0].num_replacements == 0


ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "orchestrator":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_a_node_without_the_package_is_named_with_the_remedy(cluster, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    bare = cluster.add_node(**NODE, env_vars={"PYTHONPATH": str(tmp_path)})
    missing = r"node at \S+ cannot import Verbatim \(ModuleNotFoundError: No module named 'orchestrator'\); install"
    with pytest.raises(UserError, match=missing):
        memory_of(nodes(), "cpu")
    cluster.remove_node(bare)
