"""Fixtures of runs on a cluster whose nodes come and go under them.

Real nodes, real actors, the pocket model. Seats are a made-up resource, one a worker that needs one: without it a
worker waits for a node as one without a GPU would.
"""

import gc
import itertools
import json
import os
import time
from functools import partial

import pytest
import ray
from ray.cluster_utils import Cluster

from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.slots import Job
from engine.target import decode, make_target
from orchestrator.cluster.nodes import nodes, preferably_on
from orchestrator.corpus.intake import Accepted
from orchestrator.dispatch.dispatcher import Dispatcher, Tempo
from orchestrator.dispatch.metrics import Metrics
from orchestrator.dispatch.watch import Watch
from orchestrator.fleet import workers
from orchestrator.fleet.roster import Roster
from orchestrator.fleet.solver_actor import SolverActor
from orchestrator.fleet.verifier_actor import EngineSpec, VerifierActor
from orchestrator.fleet.worker import Worker
from orchestrator.process import fail_points
from orchestrator.results.in_flight import InFlight
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_log import RunLog
from orchestrator.run.corpus_source import CorpusSource
from orchestrator.run.keeping import Keeping
from orchestrator.run.ledger_sink import LedgerSink
from orchestrator.run.rows import RowContext
from orchestrator.run.unkept import CHECKPOINTS, PARTS, Unkept
from orchestrator.sizing.placement import Placement
from orchestrator.sizing.table_size import SolverRoom
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue

LEFT_BY_RAY = pytest.mark.filterwarnings("ignore:.*socket.socket.*:pytest.PytestUnraisableExceptionWarning")
"""A node that is removed by force leaves a socket to the garbage collector."""

SEAT = {"seat": 1.0}
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

MANY_TURNS = Tempo(slice_s=0.2, judge_wait_s=1.0, patrol_s=1.0, seat_wait_s=1.0, said_every_s=2.0)
"""A loop that turns often, so that things can happen in the middle of a short run."""


@pytest.fixture(scope="module")
def _orders(tmp_path_factory):
    return tmp_path_factory.mktemp("orders")


@pytest.fixture
def orders(_orders):
    """A folder for orders to die, which the cluster's processes look into."""
    yield _orders
    for order in _orders.iterdir():
        order.unlink()


@pytest.fixture(scope="module")
def cluster(_orders):
    """A head that seats one solver, and this process connected to it."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", fail_points.VARIABLE: str(_orders)}
    head = {**NODE, "include_dashboard": False, "_system_config": SOON_DEAD}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    workers.connect(cluster.address, dashboard=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    del os.environ[fail_points.VARIABLE]
    gc.collect()  # what nodes that were removed left behind is told here, where it is expected


def solver(index, *, model="pocket", dtype="float32", table_positions=1536):
    """A solver that takes a seat, asked for."""

    def start(name):
        return SolverActor.options(name=name, num_cpus=0, resources=SEAT).remote(
            ModelSource(model), SolverRoom(table_positions), dtype=dtype, device="cpu", num_threads=1
        )

    return Worker(f"solver-{index}", start, f"run-{time.monotonic_ns()}", SEAT)


def seated_verifier(index, node_id):
    """A verifier that takes a seat as well, of that node as long as it is there."""

    def start(name):
        where = preferably_on(node_id)
        return VerifierActor.options(name=name, num_cpus=0, resources=SEAT, scheduling_strategy=where).remote(CPU)

    return Worker(f"verifier-{index}", start, f"run-{time.monotonic_ns()}", SEAT)


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
    return workers.verifier_worker("shared", 0, CPU, PLACEMENT)


@pytest.fixture
def hire(verifier, story):
    """A roster of solvers for one test; they free their seats when it ends."""
    rosters = []

    def build(num_solvers=1, *, start=solver, judges=lambda _: verifier, **more):
        roster = Roster(start, judges, num_solvers, story.say, **more)
        rosters.append(roster)
        return roster

    yield build
    for roster in rosters:
        for worker in roster.all:
            if worker is not verifier and not worker.is_aside:
                worker.stop()


@pytest.fixture
def play(story, tokens, tmp_path):
    """Run texts to their end on a roster; the rows by text, each there once."""

    def run(roster, texts=TEXTS, recipe=LONG, lease_s=600, checkpoints=tmp_path, results=tmp_path):
        info = roster.first_ready()
        jobs = [job(tokens, f"row-{row}", text, recipe) for row, text in enumerate(texts)]
        with RunLog(tmp_path) as log:
            context = RowContext(recipe.hash, info.fingerprint, "float32", partial(decode, tokens))
            watch = Watch(Metrics("test"), log)
            keeping = Keeping(InFlight(checkpoints), Unkept(watch.unkept, story.say, CHECKPOINTS))
            taken = iter([Accepted(row, job) for row, job in enumerate(jobs)])
            refused = Unkept(watch.unwritten, story.say, PARTS)
            ledger = Ledger(results)
            sink = LedgerSink(ledger, keeping, context, story, on_commit=lambda _: None, on_refusal=refused)
            story.dispatcher = Dispatcher(
                source=CorpusSource(taken, keeping.in_flight, story.say, watch),
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
            sink.settle(story.dispatcher)
        story.close()
        rows = list(Ledger(results).read())
        assert sorted(row["row"] for row in rows) == list(range(len(texts)))
        assert all(row["engine"].startswith("hf") for row in rows if row["exact"])
        return {row["text"]: row for row in rows}

    return run


@pytest.fixture
def second_seat(cluster):
    """A node with a seat beside the head's."""
    spare = [node for node in cluster.worker_nodes if node.node_id in seats()]
    return spare[0] if spare else cluster.add_node(**NODE)


def seats():
    """Ids of the nodes that take solvers."""
    return {node.id for node in nodes() if not node.is_draining}


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
    """Wait until everybody has started."""
    for worker in roster.all:
        if not worker.has_started:
            ray.wait([worker.in_flight], timeout=120)
            roster.take_in(worker)
