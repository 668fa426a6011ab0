"""When a solver compiles its model."""

import pytest

from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from orchestrator.fleet.resident_solver import COMPILE_AFTER_S, ResidentSolver
from orchestrator.sizing.table_size import SolverRoom


@pytest.fixture
def resident() -> ResidentSolver:
    solver = ResidentSolver(ModelSource(), SolverRoom(512), dtype="float32", device="cpu", num_threads=1)
    solver.load_model()
    return solver


def test_a_model_is_compiled_on_a_gpu_once_its_solver_has_stepped_for_as_long_as_that_takes(resident, monkeypatch):
    compiled = []

    def compile_layers(lm: FrozenLM) -> None:
        compiled.append(lm)
        lm.is_compiled = True

    monkeypatch.setattr(FrozenLM, "compile_layers", compile_layers)
    resident._stepped_s = COMPILE_AFTER_S + 1
    resident.advance([], 0.0)
    assert compiled == [], "not on a processor"
    resident._device = "cuda:0"
    resident._stepped_s = COMPILE_AFTER_S - 1
    resident._compile_where_it_pays()
    assert compiled == []
    resident._stepped_s = COMPILE_AFTER_S + 1
    resident._compile_where_it_pays()
    resident._compile_where_it_pays()
    assert compiled == [resident._lm], "once"
