"""Recipes written as TOML."""

import tomllib
from pathlib import Path

import pytest

from engine.recipe import Recipe, load_recipe, to_toml

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_written_recipe_is_read_back_as_itself(path, tmp_path):
    recipe = load_recipe(path)
    (tmp_path / "again.toml").write_text(to_toml(recipe), encoding="utf-8")
    again = load_recipe(tmp_path / "again.toml")
    assert again == recipe and again.hash == recipe.hash


def test_only_what_differs_from_the_defaults_is_written():
    overrides = ["num_vectors=8", "optim.lr=0.125", "loss.name=focal", "context.learn_temperature=true",
                 'terms.rloo={kind="linear",start=0.0,end=1e-7,num_steps=100}']  # fmt: skip
    assert to_toml(load_recipe(None, overrides), "two\nlines") == (
        "# two\n# lines\n\nnum_vectors = 8\n\n"
        '[loss]\nname = "focal"\n\n'
        '[terms]\nrloo = { kind = "linear", start = 0.0, end = 1e-07, num_steps = 100 }\n\n'
        "[context]\nlearn_temperature = true\n\n"
        "[optim]\nlr = 0.125\n"
    )
    assert to_toml(Recipe()).strip() == ""


@pytest.mark.parametrize(
    "name", ["a \"b\" 'c' \\ d", "tab\tnewline\n\x00\x1f\x7f\x80", "\u00e9\u4e16\U0001f600", "# [x] = "]
)
def test_any_name_of_a_stage_survives(name, tmp_path):
    recipe = Recipe.model_validate({"stages": [{"name": name, "until": 1, "set": {"loss": {}, "optim": {"lr": 1}}}]})
    (tmp_path / "again.toml").write_bytes(to_toml(recipe).encode())
    assert load_recipe(tmp_path / "again.toml") == recipe


def test_a_header_can_hold_what_a_comment_cannot():
    text = to_toml(Recipe(seed=3), "from \x00 \x1b[1m\u2028 \udcff and \u4e16\r\nseed = 4")
    assert tomllib.loads(text.encode("utf-8").decode()) == {"seed": 3}
    assert "\u4e16" in text
