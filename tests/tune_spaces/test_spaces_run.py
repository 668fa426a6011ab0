"""Draws of every space train a model."""

import pytest

from engine.slots import Job
from engine.solver import Solver
from engine.target import make_target
from tests.engine.jobs import K
from tests.tune_spaces.draws import drawn
from tune_spaces.spaces import SPACES

NUM_DRAWS = 10


@pytest.mark.parametrize("name", SPACES)
def test_two_steps_by_any_draw_leave_finite_prompts(name, tiny_llama):
    """All in one table, as trials share it."""
    solver = Solver(tiny_llama)
    for number, (recipe, _) in enumerate(drawn(name, NUM_DRAWS)):
        solver.submit(Job(make_target(tiny_llama.token_rule, str(number), "verbatim"), recipe, K))
    for _ in range(2):
        assert solver.step() == []
    assert len({slot.job.key for slot in solver.active}) == NUM_DRAWS
    assert all(slot.prompt_KD.isfinite().all() and slot.non_finite == 0 for slot in solver.active)
    assert all(slot.step == 2 for slot in solver.active)
