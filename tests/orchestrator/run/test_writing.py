"""Parts are written beside the driver: whoever dies or refuses on the way, every row is there once."""

import gc
import json
from pathlib import Path

import pytest
import ray

from bench.no_op import NoOpSolver, exact
from engine.elsewhere import Elsewhere
from orchestrator.cluster.nodes import only_on
from orchestrator.console.errors import FleetError, StorageError
from orchestrator.fleet.blocks import placed, present
from orchestrator.results import compaction
from orchestrator.results.ledger import Ledger
from orchestrator.run.part_writer import Folder
from orchestrator.run.rows import result_row
from orchestrator.run.writing import Writing
from orchestrator.storage import open_storage
from orchestrator.work.item import State
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue
from tests.orchestrator import bucket, made_up
from tests.orchestrator.made_up import ROW_CONTEXT
from tests.orchestrator.run.conftest import LEFT_BY_RAY, QUICK, TEXTS

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600), LEFT_BY_RAY]

WIDE = 4096
"""Hidden size at which a few prompts lie in Ray's store, and not in its messages."""


def events(folder, *names):
    """Events of these names in a run's log."""
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [event for event in lines if event["event"] in names]


def test_prompts_that_go_with_their_node_are_solved_again_and_nothing_is_doubled(cluster, second_seat, tmp_path):
    queue, ledger = WorkQueue(make_retry(1024, grows=False)), Ledger(tmp_path)
    for row in range(4):
        queue.add(row, made_up.job(f"row-{row}"))
    there = only_on(second_seat.node_id)
    solve(queue, "on the node that goes", NoOpSolver.options(scheduling_strategy=there).remote(None, WIDE), most=100)
    first, second = queue.take_candidates(2), queue.take_candidates(2)
    verify(queue, first)
    cluster.remove_node(second_seat, allow_graceful=False)

    writing = Writing(ledger)
    assert write(writing, queue) == [] and [item.id for item in writing.lost] == [each.id for each in first]
    assert present(second) == [], "what a verifier finds of them"
    queue.redo(writing.lost)
    queue.redo([candidate.id for candidate in second])
    assert queue.counts == {State.PENDING: 4}

    solve(queue, "on the head", NoOpSolver.remote(None, WIDE), most=100)
    verify(queue, queue.take_candidates(4))
    assert sorted(write(Writing(ledger), queue)) == [f"row-{row}" for row in range(4)]
    assert sorted(row["id"] for row in ledger.read(["id"])) == [f"row-{row}" for row in range(4)]
    assert {row["attempts"] for row in ledger.read(["attempts"])} == {1}
    gc.collect()  # what the node left is told here


def test_who_writes_a_part_may_die_before_its_line_and_what_is_left_behind_is_swept(hire, play, orders, tmp_path):
    for point in ("ledger.after_write", "writing.before_answer"):
        (orders / point).write_text("1")
    rows = play(hire(), TEXTS[:4], QUICK)
    assert all(row["exact"] for row in rows.values()) and not list(orders.iterdir())
    named = {entry["part"] for entry in Ledger(tmp_path).entries()}
    left = {path.name for path in (tmp_path / "results").iterdir()} - named
    assert sorted(name.startswith(".") for name in left) == [False, True], "a whole part and half of one"
    compaction.compact(tmp_path)
    assert {path.name for path in (tmp_path / "results").iterdir()} == named


def test_a_solver_that_dies_after_its_answer_takes_no_prompt_with_it(hire, play, story, tmp_path):
    roster = hire()

    def die():
        story.told = {event["id"] for event in events(tmp_path, "solved")}
        ray.kill(roster.solvers[0].actor)

    story.then(die, when=lambda: 0 < story.dispatcher.queue.num_candidates)
    rows = play(roster, recipe=QUICK)
    assert all(row["exact"] for row in rows.values())
    solved = [event["id"] for event in events(tmp_path, "solved")]
    assert story.told and all(solved.count(id) == 1 for id in story.told)
    assert not [event for event in events(tmp_path, "retried") if event["cause"] == "lost_prompt"]


def test_a_store_that_refuses_parts_for_a_while_gets_them_later(hire, play, story, tmp_path, monkeypatch):
    store = tmp_path / "store"
    (store / "results").mkdir(parents=True)
    (store / "503").touch()

    def hear(message):
        story.said.append(message)
        if message.startswith("results cannot be written now"):
            (store / "503").unlink()

    monkeypatch.setattr(story, "say", hear)
    rows = play(hire(), TEXTS[:4], results=f"{bucket.Unwell.protocol}://{store}")
    assert all(row["exact"] for row in rows.values())
    causes = [event["cause"] for event in events(tmp_path, "part_failed")]
    assert causes and all("503 Service Unavailable" in cause for cause in causes)


def test_what_a_disk_refuses_is_raised_as_it_is_and_nothing_is_on_its_way_any_more(cluster, tmp_path):
    (tmp_path / "results").write_text("a file where a folder should be")
    queue, writing = WorkQueue(make_retry(1024, grows=False)), Writing(Ledger(tmp_path))
    queue.add(0, made_up.job("row-0"))
    solve(queue, "here", NoOpSolver.remote(None, WIDE), most=100)
    verify(queue, queue.take_candidates(1))
    with pytest.raises(FileExistsError, match="results"):
        write(writing, queue)
    assert not (writing.is_busy or writing.num_bytes or writing.num_rows) and list(Ledger(tmp_path).entries()) == []


def solve(queue, name, solver, most):
    """All that is pending, by a solver whose prompts stay where it is."""
    advance_ref, block_ref, _ = solver.advance.remote(queue.lease(name, most), 0.0)
    for attempt in placed(ray.get(advance_ref).attempts, block_ref):
        assert isinstance(attempt.prompt_KD, Elsewhere) and len(attempt.prompt_KD) == made_up.K
        queue.finish(name, attempt)
    solver.__ray_terminate__.remote()


def verify(queue, candidates):
    for candidate in candidates:
        queue.judge(exact(candidate))


def write(writing, queue):
    """Have all that ended written; ids of what is committed."""
    items = queue.drain()
    writing.add(items, [result_row(item, ROW_CONTEXT) for item in items], 0)
    committed = []
    while writing.is_busy:
        ray.wait(writing.awaited, num_returns=1, timeout=1)
        writing.commit(lambda part: committed.extend(row["id"] for row in part.rows))
    return committed


def test_what_was_written_before_a_refused_part_is_committed_where_nobody_waits(cluster, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    queue, ledger = WorkQueue(make_retry(1024, grows=False)), Ledger(f"{bucket.Unwell.protocol}://{store}")
    writing, committed = Writing(ledger), []
    for row in range(2):
        queue.add(row, made_up.job(f"row-{row}"))
        solve(queue, "here", NoOpSolver.remote(None, WIDE), most=100)
        verify(queue, queue.take_candidates(1))
        items = queue.drain()
        writing.add(items, [result_row(item, ROW_CONTEXT) for item in items], 0)
        ray.wait(writing.awaited, num_returns=row + 1, timeout=60)
        (store / "results" / "503").touch()
    with pytest.raises(StorageError, match="503"):
        writing.commit(lambda part: committed.extend(row["id"] for row in part.rows), is_patient=False)
    assert committed == ["row-0"] == [row["id"] for row in ledger.read(["id"])]


def test_a_folder_is_the_same_one_in_a_process_that_stands_elsewhere(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Folder.of(open_storage(Path("run")))
    monkeypatch.chdir("/")
    assert here.open().at("x") == str(tmp_path / "run" / "x")


def test_no_line_names_a_part_that_is_not_here(cluster, tmp_path):
    queue, ledger, committed = WorkQueue(make_retry(1024, grows=False)), Ledger(tmp_path), []
    queue.add(0, made_up.job("row-0"))
    solve(queue, "here", NoOpSolver.remote(None, WIDE), most=100)
    verify(queue, queue.take_candidates(1))
    writing, items = Writing(ledger), queue.drain()
    writing.add(items, [result_row(item, ROW_CONTEXT) for item in items], 0)
    ray.wait(writing.awaited, num_returns=1, timeout=60)
    (written,) = (tmp_path / "results").iterdir()
    written.unlink()
    with pytest.raises(FleetError, match="is not here: it sees another disk or store"):
        writing.commit(committed.append)
    assert not committed and list(ledger.entries()) == []
