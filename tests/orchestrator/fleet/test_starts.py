"""Starts that fail: what can never succeed is said once, in one line, and not waited for; who died is tried again."""

import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import ray
from transformers import AutoModelForCausalLM, GPTNeoConfig

from engine import pocket
from engine.model_source import ModelError, ModelSource
from orchestrator.console.errors import UserError
from orchestrator.fleet import workers
from orchestrator.fleet.crew import Crew
from orchestrator.fleet.roster import Roster
from orchestrator.fleet.solver_actor import SolverActor
from orchestrator.fleet.verifier_actor import EngineSpec, VerifierActor
from orchestrator.fleet.worker import Worker
from orchestrator.pool.asked import PoolSpec
from orchestrator.pool.slot_pool_actor import SlotPoolActor
from orchestrator.process import fail_points
from orchestrator.proof.judge import Judge
from orchestrator.sizing.placement import Placement
from orchestrator.sizing.table_size import SolverRoom
from orchestrator.verifiers.contract import Candidate
from tests.tiny import VOCAB_SIZE, byte_tokenizer

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CPU = EngineSpec("hf", str(pocket.PATH), None, "float32", 1024)
PLACEMENT = Placement(1, "cpu", 0, 0, 1, 1536)
KILLED = "died while loading (its process was killed or crashed, most often for want of memory)"


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    """Folder of the orders to die, and Ray for all tests here."""
    folder = tmp_path_factory.mktemp("orders")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(fail_points.VARIABLE, str(folder))
        workers.connect(None, dashboard=False)
        yield folder
    ray.shutdown()


@pytest.fixture
def said():
    return []


@pytest.fixture
def hire(orders, said):
    """A roster of one solver and of a verifier that waits for a machine that never comes, unless there is another."""
    rosters = []

    def build(*budgets, model="pocket", verifier=None):
        def start(name):
            budget = left.pop(0) if len(left) > 1 else left[0]
            options = {"dtype": "float32", "device": "cpu", "num_threads": 1}
            return SolverActor.options(name=name, num_cpus=0).remote(ModelSource(model), SolverRoom(budget), **options)

        left, run = list(budgets or (1536,)), f"run-{time.monotonic_ns()}"
        waiting = Worker("verifier-0", lambda name: VerifierActor.options(name=name, num_gpus=1).remote(CPU), run)
        rosters.append(
            Roster(lambda i: Worker(f"solver-{i}", start, run), lambda _: verifier or waiting, 1, said.append)
        )
        return rosters[-1]

    yield build
    for roster in rosters:
        for worker in roster.all:
            worker.stop()


@pytest.fixture
def verifier(orders):
    return workers.verifier_worker(f"run-{time.monotonic_ns()}", 0, CPU, PLACEMENT)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The pocket model, its weights cut off in the middle."""
    folder = shutil.copytree(pocket.PATH, tmp_path_factory.mktemp("broken") / "model")
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    return str(folder)


@pytest.fixture
def one_prompt():
    return Candidate("a", np.zeros((1, 1), np.float32), (0,))


def test_a_model_that_cannot_be_loaded_is_told_at_once_in_one_line(hire, said, model):
    roster = hire(model=model)
    with pytest.raises((UserError, ModelError), match=rf"--model {model}: [^\n]*$"):
        roster.first_ready()
    assert said == [] and roster.solvers[0].num_replacements == 0


def test_an_engine_that_cannot_be_loaded_is_told_at_once_in_one_line(orders, said, model, one_prompt):
    unfit = Judge(replace(CPU, model=model), "unfit", said.append)
    with pytest.raises((UserError, ModelError), match=rf"--model {model}: [^\n]*$"), unfit as judge:
        judge.judge([one_prompt])
    assert said == []


def test_who_dies_while_loading_is_started_again_and_so_is_who_could_load_before(hire, orders, verifier, said):
    order = orders / "solver.loads"
    order.write_text("pocket")
    roster = hire(1536, 1536, 0, 1536, verifier=verifier)
    roster.say = lambda line: "died" in line and (said.append(line), order.unlink(missing_ok=True))
    assert roster.first_ready().device_name == "cpu"
    assert said == [f"solver-0 {KILLED}; starting it anew (2 of 4)"]
    roster.replace(roster.solvers[0], TimeoutError("made up"))
    roster.first_ready()
    assert said[1] == "solver-0 died (made up); starting it anew (3 of 4)"
    assert "died while loading (--model pocket: cannot be loaded" in said[2] and "table_positions = 0" in said[2]
    assert said[2].endswith("starting it anew (4 of 4)") and len(said) == 3


def test_a_pool_tells_both(orders, model, tmp_path):
    order = orders / "verifier.loads"
    order.write_text(model)
    crew = Crew(ModelSource(), PLACEMENT, "float32", replace(CPU, model=model), lease_s=60)
    pool = SlotPoolActor.remote(PoolSpec("pool", crew, tmp_path))
    described, deaths = pool.describe.remote(), []
    while not ray.wait([described], timeout=0.2)[0]:
        deaths += [line for line in workers.get(pool.news.remote()) if "died" in line]  # a solver may be ready first
        if deaths:
            order.unlink(missing_ok=True)
    assert deaths[0] == f"verifier-0 {KILLED}; starting it anew (2 of 4)"  # on a busy machine it may die once more
    with pytest.raises((UserError, ModelError), match=rf"--model {model}: [^\n]*$"):
        workers.get(described)


@pytest.mark.vllm
def test_a_model_that_vllm_lacks_ends_a_run_with_vllms_reason_and_leaves_nothing(
    verbatim, write_jsonl, tmp_path, orders
):
    config = GPTNeoConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_layers=1,
        num_heads=2,
        attention_types=[[["global"], 1]],
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"id": "a", "text": "Ada!"}])
    settings = ("--set", "num_vectors=7", "--no-dashboard")
    ended = verbatim("run", corpus, "--model", tmp_path / "model", "--out", tmp_path / "run", *settings)
    assert ended.code == 2 and not (tmp_path / "run").exists()
    assert "Model architectures ['GPTNeoForCausalLM'] are not supported" in ended.err
    assert ended.err.endswith("; judge with --engine hf\n") and ended.err.count("\n") == 1
    assert "died" not in ended.out
