"""Checkpoints on their way: through the stores of real nodes, into a real folder."""

import subprocess
import sys
import time

import pytest
import ray

from engine.checkpoint import Checkpoint, to_bytes
from orchestrator.cluster.nodes import Home, only_on
from orchestrator.fleet import blocks
from orchestrator.fleet.blocks import states_placed, states_present, states_taken_out
from orchestrator.results.in_flight import InFlight
from orchestrator.run import keeping
from orchestrator.run.keeping import Keeping
from tests.orchestrator.made_up import job
from tests.orchestrator.run.conftest import LEFT_BY_RAY, NODE

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600), LEFT_BY_RAY]

JOB = job("a")


def state(step):
    return to_bytes(Checkpoint(JOB, [{"step": step}]))


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "in_flight").iterdir()}


@pytest.fixture
def kept(cluster, tmp_path):
    """The checkpoints of a folder, and what was told of it."""
    told = []
    yield (keeps := Keeping(InFlight(tmp_path), told.append, lambda *written: told.append(written))), told
    keeps.settle(60)


def test_what_is_kept_is_what_the_next_call_finds_and_a_finished_run_leaves_nothing(kept, tmp_path):
    keeps, told = kept
    keeps.keep({0: state(1), 7: state(2)})
    keeps.settle(60)
    assert InFlight(tmp_path).recall(7, JOB.target) == (JOB, state(2))
    keeps.forget([0, 3])
    keeps.settle(60)
    assert files(tmp_path) == {"7.safetensors": state(2)}
    assert [num_bytes for _, num_bytes in told] == [len(state(1)) + len(state(2)), 0]
    keeps.keep({7: state(3)})
    keeps.clear()
    assert list(tmp_path.iterdir()) == []


def test_what_comes_while_a_store_is_slow_is_gathered_and_the_newest_of_a_row_counts(kept, tmp_path):
    keeps, told = kept
    keeps.keep({0: state(0)})
    for step in range(1, 9):
        keeps.keep({0: state(step), step: state(step)})
    keeps.forget([4])
    keeps.forget([5])
    keeps.keep({5: state(50)})
    keeps.settle(60)
    rows = {0: 8, 1: 1, 2: 2, 3: 3, 5: 50, 6: 6, 7: 7, 8: 8}
    assert files(tmp_path) == {f"{row}.safetensors": state(step) for row, step in rows.items()}
    assert len(told) < 9


def test_what_is_too_large_to_be_worth_it_is_not_kept(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "MAX_BYTES", len(state(5)) - 1)
    keeps, _ = kept
    keeps.keep({5: state(5)})
    keeps.settle(60)
    assert not (tmp_path / "in_flight").exists()


def test_a_store_that_refuses_ends_nothing_and_what_it_refused_comes_with_the_next(kept, tmp_path):
    keeps, refusals = kept
    (tmp_path / "in_flight").write_text("where the folder would be")
    for row in range(2):
        keeps.keep({row: state(row), 9: state(9)})
        keeps.settle(60)
    keeps.forget([9])
    keeps.settle(60)
    assert len(refusals) == 3 and all(isinstance(refusal, OSError) for refusal in refusals)
    (tmp_path / "in_flight").unlink()
    keeps.keep({1: state(11)})
    keeps.settle(60)
    assert files(tmp_path) == {"0.safetensors": state(0), "1.safetensors": state(11)}


def test_a_task_that_is_still_at_work_when_a_run_is_finished_leaves_nothing_behind(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "CLEARING_S", 0.0)
    keeps, _ = kept
    keeps.keep({row: bytes(1 << 20) for row in range(64)})
    keeps.clear()
    time.sleep(2)
    assert not (tmp_path / "in_flight").exists() and keeps.awaited == []


@ray.remote(num_cpus=0, num_returns=2)
def told_of(sizes):
    return states_taken_out({f"row-{size}": bytes(size) for size in sizes})


@pytest.mark.parametrize("size", [1000, 2 * blocks.SMALL_BYTES])
def test_checkpoints_outlive_the_node_that_they_come_from(cluster, size, tmp_path):
    node = cluster.add_node(**NODE)
    told, block = told_of.options(scheduling_strategy=only_on(node.node_id)).remote([size])
    states = states_placed(ray.get(told), block, Home(node.node_id, 0, ""))
    ray.wait([states[f"row-{size}"].place], timeout=60)
    cluster.remove_node(node)
    assert states_present(states | {"here": b"1"}) == {f"row-{size}": bytes(size), "here": b"1"}
    keeps = Keeping(InFlight(tmp_path))
    keeps.keep({3: states[f"row-{size}"]})
    keeps.settle(60)
    assert files(tmp_path) == {"3.safetensors": bytes(size)}


def test_a_checkpoint_that_was_lost_is_no_head_start_and_no_file(cluster, tmp_path):
    states, _ = states_taken_out({"a": b"12"})
    lost = states_placed(states, _failing.remote(), None)
    assert states_present(lost | {"b": b"3"}) == {"b": b"3"}
    told = []
    keeps = Keeping(InFlight(tmp_path), told.append)
    keeps.keep({3: lost["a"], 4: b"4"})
    keeps.settle(60)
    assert files(tmp_path) == {"4.safetensors": b"4"} and "1 of them were lost" in str(told)


@ray.remote(num_cpus=0, max_retries=0)
def _failing():
    raise OSError("lost with its node")


def test_who_writes_parts_and_checkpoints_starts_without_the_engine():
    """A process of its own for each: torch would take it ten times as long, and half of its memory."""
    code = (
        "import sys, ray; from orchestrator.run import part_writer, checkpoint_writer; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
