"""A cluster that grows, shrinks, drains and fails under a run: every row comes out once, and exact ones are judged.

Real nodes, real actors, the pocket model. Seats are a made-up resource, one a solver: a solver without one waits for a
node as a solver without a GPU would.
"""

import itertools
import json
import os
import re
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from engine.model_source import ModelError, ModelSource
from engine.recipe import Recipe
from engine.slots import Job
from engine.target import decode, make_target
from orchestrator.cluster.nodes import nodes
from orchestrator.console.errors import UserError
from orchestrator.corpus.intake import Accepted
from orchestrator.dispatch.dispatcher import Dispatcher, Tempo
from orchestrator.dispatch.metrics import Metrics
from orchestrator.dispatch.watch import Watch
from orchestrator.fleet import workers
from orchestrator.fleet.roster import Roster
from orchestrator.fleet.solver_actor import SolverActor
from orchestrator.fleet.verifier_actor import EngineSpec
from orchestrator.fleet.workers import Worker
from orchestrator.results.in_flight import InFlight
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_log import RunLog
from orchestrator.run.corpus_source import CorpusSource
from orchestrator.run.ledger_sink import LedgerSink
from orchestrator.run.rows import RowContext
from orchestrator.sizing.placement import Placement
from orchestrator.sizing.table_size import SolverRoom
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import TOO_LARGE, WorkQueue

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

NODE = {"num_cpus": 1, "resources": {"seat": 1}, "object_store_memory": 100 << 20}
SOON_DEAD = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 5}
"""A node that answers nobody is dead after seconds; a busy one still has ten seconds for each answer."""

TEXTS = [
    " ".join(words) for words in itertools.product(("The cat", "A dog"), ("sat", "ran", "slept"), ("here.", "now."))
]
LONG = Recipe.model_validate(
    {"num_vectors": 8, "max_steps": 100, "stop_margin": 30.0, "loss": {"margin": 30.0}, "attempts": 1}
)
"""No text ever has this margin, so each takes all its steps, a few seconds in all; exact it is long before."""

QUICK = Recipe(num_vectors=8)

CPU = EngineSpec("hf", ModelSource().path, None, "float32", 1024)
PLACEMENT = Placement(1, "cpu", 0, 0, 1, 1536)

MANY_TURNS = Tempo(slice_s=0.2)
"""A loop that turns often, so that things can happen in the middle of a short run."""


@pytest.fixture(scope="module")
def cluster():
    """A head that seats one solver, and this process connected to it."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    head = {**NODE, "include_dashboard": False, "_system_config": SOON_DEAD}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    workers.connect(cluster.address, dashboard=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def solver(index, *, model="pocket", dtype="float32", table_positions=1536):
    """A solver that takes a seat, asked for."""

    def start(name):
        return SolverActor.options(name=name, num_cpus=0, resources={"seat": 1}).remote(
            ModelSource(model), SolverRoom(table_positions), dtype=dtype, device="cpu", num_threads=1
        )

    return Worker(f"solver-{index}", start, f"run-{time.monotonic_ns()}")


def job(tokens, id, text, recipe):
    """The first attempt at a text."""
    return Job(make_target(tokens, id, text), recipe, 8)


class Story:
    """The reporter of a run: keeps what is said, and lets things happen in order, one between two turns of the loop."""

    def __init__(self):
        self.said, self.plot = [], []
        self.dispatcher = None

    def then(self, act, *, when=lambda: True):
        """Next, once work is under way and the condition holds."""
        self.plot.append((when, act))

    def say(self, message):
        self.said.append(message)

    def update(self, done, detail):
        if self.plot and self.dispatcher.num_positions > 0 and self.plot[0][0]():
            self.plot.pop(0)[1]()

    def close(self):
        assert self.plot == [], "the run ended too soon"


@pytest.fixture
def story():
    return Story()


@pytest.fixture(scope="module")
def verifier(cluster):
    """One verifier for all runs here."""
    return workers.verifier_worker("shared", CPU, PLACEMENT)


@pytest.fixture
def hire(verifier, story):
    """A roster of solvers for one test; they free their seats when it ends."""
    rosters = []

    def build(num_solvers=1, *, has_room=None, fingerprint=None, start=solver):
        roster = Roster(verifier, start, num_solvers, has_room, story.say, fingerprint)
        rosters.append(roster)
        return roster

    yield build
    for roster in rosters:
        for worker in roster.solvers:
            worker.stop()


@pytest.fixture
def play(story, tokens, tmp_path):
    """Run texts to their end on a roster; the rows by text, each there once."""

    def run(roster, texts=TEXTS, recipe=LONG, lease_s=600):
        info = roster.first_ready()
        jobs = [job(tokens, f"row-{row}", text, recipe) for row, text in enumerate(texts)]
        with RunLog(tmp_path) as log:
            context = RowContext(recipe.hash, info.fingerprint, "float32", partial(decode, tokens))
            watch, in_flight = Watch(Metrics("test"), log), InFlight(tmp_path)
            taken = iter([Accepted(row, job) for row, job in enumerate(jobs)])
            sink = LedgerSink(Ledger(tmp_path), in_flight, context, story, on_commit=lambda _: None)
            story.dispatcher = Dispatcher(
                source=CorpusSource(taken, in_flight, story.say, watch),
                sink=sink,
                queue=WorkQueue(make_retry(1024, grows=False)),
                roster=roster,
                watch=watch,
                say=story.say,
                table_positions=1536,
                tempo=MANY_TURNS,
                lease_s=lease_s,
            )
            story.dispatcher.run()
            sink.commit(story.dispatcher)
        story.close()
        rows = list(Ledger(tmp_path).read())
        assert sorted(row["row"] for row in rows) == list(range(len(texts)))
        assert all(row["engine"].startswith("hf") for row in rows if row["exact"])
        return {row["text"]: row for row in rows}

    return run


def solved_by(folder):
    """Names of the workers whose attempts became candidates, by the run's log."""
    events = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return {event["worker"] for event in events if event["event"] == "solved"}


def look(roster, until):
    """Have the roster look at the cluster until it has seen something; nothing else goes on meanwhile."""
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        roster.look_around()
        time.sleep(0.1)


def start_all(roster):
    """Wait until every solver has started."""
    for worker in roster.solvers:
        if not worker.has_started:
            ray.wait([worker.in_flight], timeout=120)
            roster.take_in(worker)


@pytest.fixture
def second_seat(cluster):
    """A node with a seat beside the head's."""
    spare = [node for node in cluster.worker_nodes if node.node_id in seats()]
    return spare[0] if spare else cluster.add_node(**NODE)


def seats():
    """Ids of the nodes that take solvers."""
    return {node.id for node in nodes() if not node.is_draining}


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
    huge = " ".join(many)
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
