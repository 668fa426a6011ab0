"""What of a recipe is left to the model, and how long finding it may take."""

import math
import time

import pytest

from engine import adaptation, samples
from engine.adaptation import AFFORDABLE, Adaptation, Adapting, adapt, is_left_open
from engine.capacity import VectorPlan
from engine.recipe import load_recipe
from engine.solver import Solver
from tests.engine.jobs import NEVER, PINNED

AUTO = load_recipe(None, [*PINNED, "proof=auto", "num_vectors=5", "max_steps=300"])
SLOW = '{name="slow", set={optim={lr=0.001}}}'
MEMBERS = [*PINNED, "num_vectors=5", f'portfolio=[{SLOW}, {{name="fast"}}, {SLOW}]']


@pytest.fixture(autouse=True)
def few_short_samples(monkeypatch):
    monkeypatch.setattr(samples, "NUM_SAMPLES", {2: 2, 4: 2})
    monkeypatch.setattr(adaptation, "LENGTHS", (2, 4))


def test_only_a_proof_or_an_order_is_left_to_the_model():
    assert is_left_open(AUTO) and is_left_open(load_recipe(None, MEMBERS))
    side_by_side = load_recipe(None, [*MEMBERS, "siblings=3"])
    assert not any(map(is_left_open, (side_by_side, load_recipe(None, []), load_recipe(None, ["proof=beam"]))))


def test_a_recipe_as_it_suits_a_model_leaves_nothing_to_it():
    recipe = load_recipe(None, [*MEMBERS, "proof=auto"])
    suited = Adaptation(member=1, price=1.1).of(recipe)
    assert suited.proof == "beam" and [member.name for member in suited.portfolio] == ["fast", "slow", "slow"]
    assert Adaptation().of(recipe) == recipe.model_copy(update={"proof": "greedy"})
    beams = load_recipe(None, ["proof=beam"])
    assert Adaptation().of(beams) == beams


def test_the_member_that_takes_least_goes_first(tiny_llama):
    solver = Solver(tiny_llama)
    found = adapt(solver, load_recipe(None, MEMBERS), None)
    assert found == Adaptation(member=1) and solver.is_idle


def test_the_first_member_stays_first_among_equals(tiny_llama):
    equal = load_recipe(None, [*PINNED, "portfolio=[{}, {}]"])
    assert adapt(Solver(tiny_llama), equal, VectorPlan(((2, 2), (4, 4)))) == Adaptation()


def test_a_proof_for_beams_that_is_dear_is_given_up_as_soon_as_that_is_known(tiny_llama, monkeypatch):
    whole, bounded = Solver(tiny_llama), Solver(tiny_llama)
    price = adapt(whole, AUTO, None).price
    assert price is not None and 1 < price <= AFFORDABLE, "so short a text is sure as soon as it is said"
    monkeypatch.setattr(adaptation, "AFFORDABLE", (1 + price) / 2)
    assert adapt(bounded, AUTO, None) == Adaptation(is_dear=True)
    assert bounded.num_positions < whole.num_positions


def test_in_slices_it_comes_to_what_it_comes_to_at_once(tiny_llama):
    sliced, looks = Adapting(Solver(tiny_llama), AUTO, None, 1000.0), 0
    while (found := sliced.advance(0.0)) is None:
        looks += 1
        assert 0 < sliced.seconds_left < 1000
    assert found == adapt(Solver(tiny_llama), AUTO, None) and looks > 5


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_where_time_runs_out_the_recipes_own_order_and_the_usual_proof_stand(tiny_llama, seconds):
    never = [*PINNED, *NEVER, "max_steps=100000", "num_vectors=5", "portfolio=[{}, {}]", "proof=auto"]
    solver, started = Solver(tiny_llama), time.monotonic()
    found = adapt(solver, load_recipe(None, never), None, seconds)
    assert found == Adaptation(is_settled=False, seconds=seconds) and solver.is_idle
    assert time.monotonic() - started < seconds + 5


def test_a_model_that_neither_proof_reaches_is_settled(tiny_llama):
    """Trying again would find the same."""
    hopeless = load_recipe(None, [*PINNED, *NEVER, "max_steps=10", "num_vectors=5", "proof=auto"])
    assert adapt(Solver(tiny_llama), hopeless, None, math.inf) == Adaptation()
