"""How many vectors a text gets."""

import json
import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import capacity, samples
from engine.capacity import Calibration, VectorPlan, calibrate, seconds_for
from engine.recipe import load_recipe
from engine.slots import Job
from engine.solver import Solver
from tests.engine.jobs import PINNED

Points = tuple[tuple[int, int], ...]


@st.composite
def points(draw) -> Points:
    """Up to four (tokens, vectors) in rising order of tokens."""
    lengths = sorted(draw(st.sets(st.integers(1, 200), min_size=1, max_size=4)))
    return tuple((length, draw(st.integers(1, length))) for length in lengths)


@given(points(), st.integers(1, 500), st.integers(2, 1000))
def test_a_plan_gives_at_least_one_vector_and_no_more_than_tokens_or_context_allow(points, num_tokens, context):
    num_vectors = VectorPlan(points).num_vectors(num_tokens, context)
    assert 1 <= num_vectors <= num_tokens
    assert num_vectors + num_tokens <= context or num_vectors == 1


@given(points())
def test_a_plan_passes_through_its_points(points):
    assert tuple((length, VectorPlan(points).num_vectors(length, 10_000)) for length, _ in points) == points


@given(points(), st.integers(1, 300), st.integers(1, 300))
def test_a_longer_text_gets_no_fewer_vectors_where_the_share_does_not_fall(points, shorter, longer):
    shorter, longer = sorted((shorter, longer))
    fewer, more = (VectorPlan(points).num_vectors(length, 10_000) for length in (shorter, longer))
    shares = [vectors / length for length, vectors in points]
    assert fewer <= more or shares != sorted(shares)
    assert min(shares) * longer - 1e-6 <= more <= math.ceil(max(shares) * longer)


@pytest.mark.parametrize("plan", [VectorPlan(((8, 2), (32, 16))), VectorPlan(((8, 4), (32, 16)), (32,), 60.0)])
def test_a_plan_survives_json_what_it_left_undecided_included(plan):
    assert VectorPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.fixture
def samples_of(monkeypatch):
    """Calibrate on other lengths: `samples_of({3: 2})`."""

    def set_to(num_samples: dict[int, int]) -> None:
        monkeypatch.setattr(samples, "NUM_SAMPLES", num_samples)
        monkeypatch.setattr(capacity, "LENGTHS", tuple(num_samples))

    return set_to


RECIPE = load_recipe(None, [*PINNED, "max_steps=60", "siblings=3"])


def test_a_calibration_finds_sizes_that_solve_every_sample(tiny_llama, samples_of):
    samples_of({2: 3, 5: 2})
    solver = Solver(tiny_llama)
    plan = calibrate(solver, RECIPE, math.inf)
    assert [length for length, _ in plan.points] == [2, 5] and not plan.undecided and solver.is_idle
    for length, num_vectors in plan.points:
        targets = samples.sample_targets(tiny_llama.token_rule, length)
        alone = Solver(tiny_llama).solve([Job(target, RECIPE, num_vectors) for target in targets])
        assert len(alone) == samples.NUM_SAMPLES[length] and all(attempt.is_candidate for attempt in alone)


def test_samples_hold_no_token_that_the_model_lacks(tiny_llama):
    few = replace(tiny_llama.token_rule, num_embeddings=50)
    (target, *_) = samples.sample_targets(few, 32)
    assert len(target.token_ids) == 32 and max(target.token_ids) < 50


def test_a_calibration_in_slices_comes_to_what_it_comes_to_at_once(tiny_llama, samples_of):
    samples_of({2: 2, 4: 2})
    sliced = Calibration(Solver(tiny_llama), RECIPE, 1000.0)
    looks = 0
    while (plan := sliced.advance(0.0)) is None:
        looks += 1
        assert 0 < sliced.seconds_left < 1000
    assert plan == calibrate(Solver(tiny_llama), RECIPE, math.inf) and looks > 10


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_where_time_runs_out_a_text_gets_a_vector_for_two_tokens_or_more_and_the_plan_says_so(
    tiny_llama, samples_of, seconds
):
    samples_of({8: 2, 40: 2})
    solver = Solver(tiny_llama)
    hard = load_recipe(None, [*PINNED, "max_steps=100000", "stop_margin=1000", "loss.margin=2000"])
    started = time.monotonic()
    plan = calibrate(solver, hard, seconds)
    assert time.monotonic() - started < seconds + 5, "the bound, and no more than a step beyond it"
    assert plan.undecided == (8, 40) and plan.seconds == seconds and solver.is_idle
    assert all(num_vectors >= length / 2 for length, num_vectors in plan.points)


def test_a_model_that_no_other_ratio_solves_is_given_a_vector_a_token(tiny_llama, samples_of, monkeypatch):
    samples_of({6: 1})
    monkeypatch.setattr(capacity, "MAX_STEPS", 10)
    impossible = load_recipe(None, [*PINNED, "stop_margin=1000", "loss.margin=2000"])
    assert calibrate(Solver(tiny_llama), impossible, math.inf).points == ((6, 6),)


def test_a_run_of_few_texts_is_not_kept_waiting_for_its_calibration():
    assert [seconds_for(n) for n in (0, 1, 10, 64, 10**6)] == [0, 2, 20, 60, 60]
