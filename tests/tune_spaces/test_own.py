"""A Ray Tuner of one's own: the example as people run it, configurations as recipes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import tune_spaces
from engine.recipe import Recipe
from orchestrator.console.errors import UserError
from tune_spaces.own import recipe_with

ROOT = Path(__file__).parents[2]
TEXTS = [f"The {who} sat {where}.\n" for who in ("cat", "dog", "man") for where in ("here", "by me")]


def test_a_configuration_changes_what_it_names_and_nothing_else():
    recipe = recipe_with(Recipe(), {"optim.lr": 0.25, "siblings": 2, "terms.simctg": 0.5})
    assert (recipe.optim.lr, recipe.siblings, recipe.terms.simctg) == (0.25, 2, 0.5)
    assert recipe_with(recipe, {"optim.lr": 1.0, "siblings": 1, "terms.simctg": 0.0}) == Recipe()
    with pytest.raises(ValidationError, match="learning_rate"):
        recipe_with(Recipe(), {"optim.learning_rate": 0.25})


def test_what_is_exported_is_there_and_nothing_else():
    assert all(getattr(tune_spaces, name) is not None for name in tune_spaces.__all__)
    assert dir(tune_spaces) == sorted(tune_spaces.__all__)
    with pytest.raises(AttributeError, match="'tune_spaces' has no attribute 'open_slot'; it has "):
        _ = tune_spaces.open_slot


def test_an_objective_that_is_none_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(UserError, match="objective='speed': must be of cost, pareto, capacity"):
        with tune_spaces.open_slots("corpora/demo.parquet", tmp_path / "own", objective="speed"):
            pass
    assert not (tmp_path / "own").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_example_tries_a_grid_and_compares_the_best_on_other_texts(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(TEXTS))
    command = [sys.executable, "examples/own_tuner.py", str(corpus), str(tmp_path / "own"), "hf"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert said.returncode == 0, said.stderr
    rates = re.findall(r"^([\d.]+): [\d.]+ passes a text$", said.stdout, re.MULTILINE)
    assert rates == ["0.3", "1", "3"], said.stdout
    assert re.search(r"the best on other texts: [\d.]+ times the base's cost .* of 2 exact", said.stdout), said.stdout
