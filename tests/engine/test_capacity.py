"""How many vectors a text gets."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import capacity
from engine.capacity import SAMPLES, VectorPlan, calibrate
from engine.certificate import Certificate
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target
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


def test_a_plan_survives_json():
    plan = VectorPlan(((8, 2), (32, 16)))
    assert VectorPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def attempts_of(num_vectors: int, num_solved: int, tokens: int) -> list[Attempt]:
    """One attempt for each sample, the first `num_solved` of them solved."""
    job = Job(Target("a", "text", (1, 2, 3)), Recipe(), num_vectors)
    certificates = [Certificate(1.0, 3, 3) if n < num_solved else Certificate(-1.0, 1, 3) for n in range(len(SAMPLES))]
    return [Attempt(job, torch.zeros(num_vectors, 5), certificate, 10, tokens, 0.0) for certificate in certificates]


ALL = len(SAMPLES)


@pytest.mark.parametrize(
    ("measured", "cheapest"),
    [
        ([(1, ALL, 500), (2, ALL, 300), (4, ALL, 400)], 2),
        ([(1, ALL, 500), (2, ALL, 380), (4, ALL, 300)], 2),
        ([(1, ALL - 1, 100), (2, ALL, 300), (4, ALL, 200)], 4),
        ([(1, 0, 10), (2, ALL - 1, 10), (4, ALL - 2, 10)], 2),
        ([(1, ALL - 1, 10), (2, ALL - 1, 90), (4, 0, 10)], 2),
        ([(1, 0, 10), (2, 0, 10), (4, 0, 10)], 4),
        ([(4, ALL, 10)], 4),
    ],
    ids=[
        "cost",
        "smaller where the cost is alike",
        "exactness before cost",
        "most solved",
        "larger on a tie",
        "nothing solved",
        "one size",
    ],
)
def test_the_cheapest_size_that_solves_most_wins(measured, cheapest):
    attempts = [attempt for size in measured for attempt in attempts_of(*size)]
    assert capacity._cheapest(attempts) == capacity._cheapest(attempts[::-1]) == cheapest


def test_a_calibration_finds_sizes_that_solve_on_a_real_model(tiny_llama, monkeypatch):
    monkeypatch.setattr(capacity, "LENGTHS", (3, 11))
    finished: list[Attempt] = []
    plan = calibrate(Solver(tiny_llama), load_recipe(None, [*PINNED, "max_steps=60", "siblings=3"]), finished.append)
    assert [length for length, _ in plan.points] == [3, 11]
    for length, vectors in plan.points:
        mine = [a for a in finished if a.job.target.id.startswith(f"calibration-{length}-")]
        chosen = [a for a in mine if a.job.num_vectors == vectors]
        assert len(chosen) == len(SAMPLES) and all(a.is_candidate for a in chosen)
        assert {len(a.job.target.token_ids) for a in mine} == {length}
        assert {a.job.recipe.siblings for a in mine} == {1}
