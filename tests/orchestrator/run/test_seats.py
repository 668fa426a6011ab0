"""Seats go to whoever has work: nodes that are lost with none to take their place, and verifiers beyond the first."""

import json

import psutil
import pytest
import ray

from bench.no_op import NoOpSolver, NoOpVerifier
from orchestrator.dispatch import checkpointing
from orchestrator.dispatch import dispatcher as dispatching
from orchestrator.dispatch import seats as seating
from orchestrator.dispatch.seats import Seats
from orchestrator.fleet import workers
from orchestrator.fleet.roster import Roster
from orchestrator.fleet.verifier_actor import JUDGE_BATCH
from orchestrator.fleet.worker import Worker
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue
from tests.orchestrator import bucket, made_up
from tests.orchestrator.run.conftest import CPU, LEFT_BY_RAY, LONG, PLACEMENT, QUICK, TEXTS, seated_verifier, start_all

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600), LEFT_BY_RAY]


def test_a_verifier_that_lost_its_node_and_the_solver_take_turns_on_the_last_seat(
    cluster, second_seat, hire, play, story, monkeypatch
):
    for name in ("OPEN_WINDOW", "OPEN_PER_SOLVER"):
        monkeypatch.setattr(dispatching, name, 8)  # of 12 texts: the solver is wanted again after the first verdicts
    roster = hire(judges=lambda index: seated_verifier(index, second_seat.node_id))
    start_all(roster)
    assert roster.verifiers[0].home.node_id == second_seat.node_id
    story.then(lambda: cluster.remove_node(second_seat, allow_graceful=False))
    rows = play(roster, recipe=LONG)
    assert all(row["exact"] for row in rows.values())
    assert "solver-0 has nothing to do and gives its seat to verifier-0, which has none" in story.said
    assert "verifier-0 has nothing to do and gives its seat to solver-0, which has none" in story.said
    # It is told of only where it lasts half a minute.
    waits = [said for said in story.said if "candidates wait: verifier-0 has waited" in said]
    assert all("for a node with 1 seat free; add a node" in said for said in waits)
    assert [worker.num_deaths for worker in roster.all] == [0, 0]


def test_two_verifiers_share_the_candidates_and_one_that_dies_costs_nothing(hire, play, story, tmp_path):
    roster = hire(judges=lambda index: workers.verifier_worker("pair", index, CPU, PLACEMENT), num_verifiers=2)
    start_all(roster)
    first_asked = psutil.Process(roster.verifiers[0].home.pid)
    story.then(first_asked.kill)
    rows = play(roster, recipe=QUICK)
    assert all(row["exact"] for row in rows.values())
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    judged = [event["id"] for event in events if event["event"] == "judged"]
    assert sorted(judged) == sorted(f"row-{row}" for row in range(len(TEXTS)))
    assert [event["worker"] for event in events if event["event"] == "actor_died"] == ["verifier-0"]
    assert {event["worker"] for event in events if event["event"] == "judged"} >= {"verifier-1"}


def test_a_store_that_refuses_checkpoints_for_a_while_ends_nothing_and_gets_those_that_come_later(
    hire, play, story, tmp_path, monkeypatch
):
    store = tmp_path / "store"
    store.mkdir()
    (store / "503").touch()
    monkeypatch.setattr(checkpointing, "LEAST_S", 0.0)
    story.then((store / "503").unlink, when=lambda: any("503" in said for said in story.said))
    story.then(lambda: None, when=lambda: any((store / "in_flight").glob("*")))
    rows = play(hire(), checkpoints=f"{bucket.Unwell.protocol}://{store}")
    assert all(row["exact"] for row in rows.values())
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    failed = [event["cause"] for event in events if event["event"] == "checkpoint_failed"]
    assert failed and all("503 Service Unavailable" in cause for cause in failed)
    assert sum(said.startswith("checkpoints cannot be written now") for said in story.said) == 1


@pytest.fixture
def idle_fleet(cluster):
    """A roster of actors that do nothing, all started, and a queue with a batch of candidates and one more."""
    said, queue = [], WorkQueue(make_retry(1024, grows=False))
    for row in range(JUDGE_BATCH + 1):
        queue.add(row, made_up.job(f"row-{row}"))
    for job in queue.lease("w", 10**9):
        queue.finish("w", made_up.attempt(job))
    roster = Roster(
        hire=lambda index: Worker(f"solver-{index}", lambda _: NoOpSolver.remote(), "idle"),
        hire_verifier=lambda index: Worker(f"verifier-{index}", lambda _: NoOpVerifier.remote(), "idle"),
        num_solvers=1,
        say=said.append,
        has_room_for_verifiers=lambda up: 2,
    )
    start_all(roster)
    yield roster, Seats(queue, roster, said.append, lambda: False, 0.0, 0.0), said
    for worker in roster.all:
        ray.kill(worker.actor)


def test_a_verifier_is_added_where_a_batch_waits_behind_busy_ones_and_no_more_than_there_is_room_for(
    idle_fleet, monkeypatch
):
    roster, seats, said = idle_fleet
    monkeypatch.setattr(seating, "LOOK_INTERVAL_S", 0.0)
    monkeypatch.setattr(seating, "BACKLOG_S", 0.0)
    seats.look()
    seats.look()
    assert len(roster.verifiers) == 1, "nobody is at work yet"
    for number in (2, 2):
        for verifier in roster.verifiers:
            verifier.ask(ray.put(None))
        seats.look()
        seats.look()
        assert [verifier.name for verifier in roster.verifiers] == [f"verifier-{i}" for i in range(number)]
        start_all(roster)
    assert f"{JUDGE_BATCH + 1} candidates wait: verifier-1 is added" in said
