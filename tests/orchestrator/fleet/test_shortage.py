"""What a solver's passes keep: as its card allows, and less where memory runs out under a text alone in the table."""

import pytest
import torch

from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.slots import Job
from engine.target import Target, make_target
from orchestrator.fleet import resident_solver
from orchestrator.fleet.resident_solver import ResidentSolver
from orchestrator.process.memory import GIB
from orchestrator.sizing.table_size import MEASURED_FRAC, TELLING_POSITIONS, SolverRoom

TEXT = "It was late, and nobody had heard the bell."


@pytest.fixture
def solver():
    solver = ResidentSolver(ModelSource(), SolverRoom(512), dtype="float32", device="cpu", num_threads=1)
    solver.load_model()
    return solver


def job(solver, id):
    target = make_target(solver._lm.token_rule, id, TEXT)
    assert isinstance(target, Target)
    return Job(target, Recipe(), 8)


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_a_solver_measures_what_its_passes_keep_whoever_chose_its_table(is_asked_for, monkeypatch):
    monkeypatch.setattr(resident_solver, "bound_this_process", lambda num_bytes: None)
    monkeypatch.setattr(resident_solver, "peak_since_last_asked", lambda: 2 * GIB)  # of one GiB that there is
    room = SolverRoom(1024, 1024, num_bytes=GIB, is_budget_fixed=is_asked_for, kept_positions=4096)
    solver = ResidentSolver(ModelSource(), room, dtype="float32", device="cpu", num_threads=1)
    solver.load_model()
    for number in range(40):
        solver._solver.submit(job(solver, str(number)))
    solver._step()
    assert solver._solver.largest_pass >= TELLING_POSITIONS
    assert solver._lm.keeps_up_to == int(MEASURED_FRAC * solver._solver.largest_pass / 2)
    assert solver._solver.table_positions == (1024 if is_asked_for else solver._lm.keeps_up_to)


def run_out(monkeypatch, fits):
    """Passes that do not fit end as a device's do."""
    read_rows = FrozenLM.read_rows

    def read(lm, prompts_RD, contexts_ND, layout):
        if not fits(lm, layout):
            raise torch.OutOfMemoryError("out of memory")
        return read_rows(lm, prompts_RD, contexts_ND, layout)

    monkeypatch.setattr(FrozenLM, "read_rows", read)


def shortages(solver):
    """What a run does: begin again what the table held, until it is given up or ends."""
    told = []
    while True:
        advance = solver.advance([job(solver, "a")], 60.0)
        if advance.shortage is None:
            return told, advance.attempts
        told.append(advance.shortage.too_large)
        if told[-1] is not None:
            return told, []


def test_it_is_passed_again_with_its_layers_computed_twice(solver, monkeypatch):
    run_out(monkeypatch, lambda lm, layout: lm.keeps_up_to < layout.num_positions)
    told, (attempt,) = shortages(solver)
    assert told == [None] and attempt.is_candidate


def test_it_is_given_up_where_that_does_not_help(solver, monkeypatch):
    run_out(monkeypatch, lambda lm, layout: False)
    assert shortages(solver) == ([None, "a"], [])


def test_it_is_given_up_at_once_in_a_family_that_cannot_compute_again(solver, monkeypatch):
    monkeypatch.setattr("orchestrator.fleet.resident_solver.layers_of", lambda body: [])
    run_out(monkeypatch, lambda lm, layout: False)
    assert shortages(solver) == (["a"], [])
