"""Recipes tried on resident models: each as if it were alone, none twice."""

from dataclasses import replace
from pathlib import Path

import pytest
import ray

from engine.frozen_lm import TokenRule
from engine.model_source import ModelSource
from engine.recipe import load_recipe
from engine.slots import Job
from engine.target import make_target
from orchestrator.fleet import workers
from orchestrator.fleet.crew import Crew
from orchestrator.fleet.verifier_actor import EngineSpec
from orchestrator.pool.asked import PoolSpec, PoolText
from orchestrator.pool.slot_pool import OUTCOMES
from orchestrator.pool.slot_pool_actor import SlotPoolActor
from orchestrator.results.run_log import read_events
from orchestrator.sizing.placement import Placement

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TEXTS = ("The cat sat here.", "A dog ran.")
NUM_VECTORS = 4
BUDGET = 60.0
MARGIN_TOLERANCE = 1e-3
"""Logits: float32 sums in another order, over the steps of an attempt."""


@pytest.fixture(scope="module")
def start(tmp_path_factory, tokens: TokenRule):
    """Start a pool over `TEXTS` in a folder that may hold outcomes."""
    workers.connect(None, dashboard=False)
    recipe = load_recipe(None, [f"num_vectors={NUM_VECTORS}"])
    jobs = [Job(make_target(tokens, f"text {i}", text), recipe, NUM_VECTORS) for i, text in enumerate(TEXTS)]
    placement = Placement(1, "cpu", 0, 0, solver_threads=1, table_positions=1536)
    engine = EngineSpec("hf", ModelSource().path, None, "float32", tokens.context)
    crew = Crew(ModelSource(), placement, "float32", engine, lease_s=120)

    def start_pool(folder: Path, name: str, budget: float = BUDGET):
        pool = SlotPoolActor.remote(PoolSpec(name, crew, folder))
        return pool, ray.get(pool.open.remote([PoolText(job, budget) for job in jobs]))

    yield start_pool
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pool")


@pytest.fixture(scope="module")
def pool(start, folder):
    pool, known = start(folder, "first")
    assert known == 0
    return pool


def ask(pool, *overrides: str, texts: tuple[int, ...] = (0, 1)):
    recipe = load_recipe(None, [f"num_vectors={NUM_VECTORS}", *overrides])
    return pool.solve.remote(recipe.model_dump_json(), [f"text {i}" for i in texts])


COMPANY = [
    [*recipe, "max_steps=12", "attempts=1"]
    for recipe in (
        *([f"optim.lr={i / 10}", f"loss.name={loss}"] for i in (2, 5) for loss in ("hinge", "squared_hinge")),
        *([f"optim.beta1={i / 20}", "num_vectors=3"] for i in (1, 9)),
        *([f"optim.beta1={i / 20}", "context.name=two_pass"] for i in (1, 9)),
    )
]
"""Recipes of unlike losses, rates, lengths and ways of reading, for the first dozen steps."""


def test_a_recipe_comes_to_the_same_alone_and_beside_others(pool, start, tmp_path):
    alone = ray.get(ask(pool, "optim.lr=0.5"))
    busy, _ = start(tmp_path, "busy")
    company = [ask(busy, *changes) for changes in COMPANY]
    beside = ray.get(ask(busy, "optim.lr=0.5"))
    assert len(company) == 8 and all(outcome.exact for outcome in alone)
    for mine, theirs in zip(alone, beside, strict=True):
        assert replace(mine, min_margin=None) == replace(theirs, min_margin=None)
        assert mine.min_margin == pytest.approx(theirs.min_margin, abs=MARGIN_TOLERANCE)
    ray.kill(busy)


def test_an_outcome_is_paid_for_once(pool, start, folder):
    outcomes = folder / OUTCOMES
    first = ray.get([ask(pool, "optim.lr=0.6"), ask(pool, "optim.lr=0.6")])
    assert first[0] == first[1]
    lines = outcomes.read_bytes()
    assert ray.get(ask(pool, "optim.lr=0.6", texts=(1, 0))) == first[0][::-1]
    assert outcomes.read_bytes() == lines

    outcomes.write_bytes(lines + lines[:50])  # torn by a kill
    later, known = start(folder, "later")
    assert known == len(lines.splitlines())
    assert ray.get(ask(later, "optim.lr=0.6")) == first[0]
    assert outcomes.read_bytes() == lines
    ray.kill(later)


def test_what_is_never_exact_costs_the_whole_budget(pool):
    for hopeless in (["optim.lr=1e-6"], ["num_vectors=1023"], ["max_steps=1", "attempts=2"]):
        for outcome in ray.get(ask(pool, *hopeless)):
            assert (outcome.exact, outcome.cost) == (False, BUDGET), hopeless
    (outcome, _) = ray.get(ask(pool, "optim.lr=1e-6"))
    assert outcome.positions == BUDGET * 9 and outcome.attempts == 1, "K + T - 1 positions a pass"


def recipe_json(rate: float) -> str:
    overrides = [f"num_vectors={NUM_VECTORS}", f"optim.lr={rate}", "max_steps=100000"]
    return load_recipe(None, overrides).model_dump_json()


def look(pool, rate: float, seconds: float):
    return ray.get(pool.look.remote(recipe_json(rate), ["text 0", "text 1"], seconds))


def test_a_look_tells_how_far_texts_have_come_and_a_dropped_recipe_goes_no_further(start, tmp_path):
    path = tmp_path / OUTCOMES
    pool, _ = start(tmp_path, "raced", budget=1e6)
    assert all(outcome.exact for outcome in look(pool, 0.5, 300.0))
    early, late = look(pool, 1e-6, 2.0), look(pool, 1e-6, 2.0)
    for before, after in zip(early, late, strict=True):
        assert before.is_under_way and after.is_under_way and not after.exact
        assert 0 < before.cost < after.cost
        assert after.positions / after.cost == pytest.approx(before.positions / before.cost), "cost is in passes"
    waited_for = pool.look.remote(recipe_json(1e-6), ["text 0"], 3.0)
    ray.get(pool.drop.remote(recipe_json(1e-6)))
    (kept,) = ray.get(waited_for)
    assert kept.is_under_way and kept.cost > late[0].cost, "somebody waited for it"
    (_, dropped) = look(pool, 1e-6, 0.0)
    assert dropped.is_under_way and dropped.cost == 0, "begun anew"
    assert len(path.read_bytes().splitlines()) == 2, "nothing is kept of what did not end"
    ray.kill(pool)


def test_a_solver_and_a_verifier_that_die_cost_no_outcome_and_are_told_of(pool, folder):
    refs = [ask(pool, f"optim.lr={rate}") for rate in (0.31, 0.32, 0.33)]
    for name in ("solver-0", "verifier-0"):
        ray.kill(ray.get_actor(f"first/{name}/0"))
    assert all(outcome.exact for outcomes in ray.get(refs) for outcome in outcomes)
    events = [event for event in read_events(folder, "actor_died", "actor_replaced")]
    assert {event["worker"] for event in events} == {"solver-0", "verifier-0"} and len(events) == 4
    assert any("starting it anew" in line for line in ray.get(pool.news.remote()))


def test_a_pool_tells_how_many_texts_its_tables_hold(pool):
    assert ray.get(pool.slots.remote()) == 2 * 1536 // (8 + 9)  # K + T - 1 of both texts
