"""Every recipe in the repository: it loads, and a model can be trained by it, stage by stage."""

from pathlib import Path

import pytest

from engine.recipe import RecipeError, load_recipe, recipe_names
from engine.slots import Job
from engine.solver import Solver
from engine.target import make_target
from tests.engine.jobs import TEXTS, K

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
EVERY_RECIPE = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


@EVERY_RECIPE
def test_two_steps_by_a_recipe_leave_finite_prompts(path, tiny_llama):
    solver, recipe = Solver(tiny_llama), load_recipe(path)
    for text in TEXTS:
        solver.submit(Job(make_target(tiny_llama.token_rule, text, text), recipe, K))
    for num_steps in (1, 2):
        assert solver.step() == []
        assert [slot.step for slot in solver.active] == [num_steps] * len(TEXTS)
    assert all(slot.prompt_KD.isfinite().all() and slot.non_finite == 0 for slot in solver.active)
    assert all(not slot.prompt_KD.equal(slot.best.prompt_KD) for slot in solver.active), "every slot has moved"


@EVERY_RECIPE
def test_a_short_attempt_passes_through_every_stage_of_a_recipe(path, tiny_llama):
    recipe = load_recipe(path, ["max_steps=10", "stop_margin=100", "loss.margin=100"])
    solver = Solver(tiny_llama)
    solver.submit(Job(make_target(tiny_llama.token_rule, "a", "Ada!"), recipe, K))
    stages = set()
    while not solver.is_idle:
        attempts = solver.step()
        stages |= {slot.lesson.stage for slot in solver.active}
        assert all(slot.prompt_KD.isfinite().all() and slot.non_finite == 0 for slot in solver.active)
    assert stages == set(range(len(recipe.by_stage())))
    assert attempts[0].steps == 10 and attempts[0].certificate.num_tokens == len("Ada!") + 1


def test_a_shipped_recipe_is_taken_by_name_unless_there_is_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe_names() == [path.stem for path in RECIPES]
    assert load_recipe(Path("beam")).proof == "beam"
    (tmp_path / "beam").write_text("seed = 7\n")
    assert load_recipe(Path("beam")).seed == 7
    with pytest.raises(RecipeError, match="--recipe bem: no such file; recipes by name: beam, "):
        load_recipe(Path("bem"))
    with pytest.raises(RecipeError, match="--recipe bem.toml: no such file$"):
        load_recipe(Path("bem.toml"))
