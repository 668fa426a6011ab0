"""What a call that was interrupted had begun to find out does not pass for what the next one asks."""

import pytest

from engine.model_source import ModelSource
from engine.recipe import Recipe
from orchestrator.fleet import resident_solver
from orchestrator.fleet.resident_solver import ResidentSolver
from orchestrator.sizing.table_size import SolverRoom
from tests.orchestrator.fleet.test_shortage import job


def unlike(rate):
    """A recipe whose plan is in no cache."""
    return Recipe.model_validate({"optim": {"lr": rate}, "proof": "auto"})


@pytest.fixture
def solver(monkeypatch, tmp_path):
    """One that has begun to calibrate, and was not asked again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(resident_solver, "CALIBRATION_SLICE_S", 0.0)
    solver = ResidentSolver(ModelSource(), SolverRoom(512), dtype="float32", device="cpu", num_threads=1)
    solver.load_model()
    assert isinstance(solver.plan(unlike(0.11), 600.0), float) and rates(solver) == {0.11}
    return solver


def rates(solver):
    """Of what is in the table."""
    return {slot.job.recipe.optim.lr for slot in solver._solver.active}


def test_attempts_find_an_empty_table(solver):
    ended, given = [], [job(solver, "a")]
    while not ended:
        ended, given = solver.advance(given, 5.0).attempts, []
    assert [attempt.job.key for attempt in ended] == ["a"] and solver._solver.is_idle


@pytest.mark.parametrize(
    "ask", [ResidentSolver.plan, lambda solver, *asked: solver.adaptation(asked[0], None, asked[1])]
)
def test_whatever_is_asked_next_is_found_out_anew(solver, ask):
    assert isinstance(ask(solver, unlike(0.12), 600.0), float)
    assert rates(solver) == {0.12}


def test_the_same_question_goes_on(solver):
    keys = solver._solver.keys
    assert isinstance(solver.plan(unlike(0.11), 600.0), float) and keys & solver._solver.keys
