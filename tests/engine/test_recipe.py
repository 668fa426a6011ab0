"""Recipes: names, ranges, where values come from, and the hash."""

import json
from operator import attrgetter
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine import losses, schedules, soft_prompt
from engine.recipe import LossRecipe, OptimRecipe, Recipe, RecipeError, StartRecipe, load_recipe, valid_keys

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_in_the_repository_loads(path):
    assert load_recipe(path).hash


def test_the_default_recipe_spells_out_every_default():
    path = RECIPES / "default.toml"
    assert load_recipe(path) == Recipe()
    assert all(f"{key.split('.')[-1]} = " in path.read_text() for key in valid_keys())


@pytest.mark.parametrize(
    ("section", "field", "implemented"),
    [
        (LossRecipe, "name", losses.TERMS),
        (OptimRecipe, "decay", schedules.DECAYS),
        (StartRecipe, "name", soft_prompt.STARTS),
    ],
)
def test_every_name_a_recipe_takes_is_implemented(section, field, implemented):
    assert set(section.model_fields[field].annotation.__args__) == set(implemented)


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("optim.learning_rate=1", "optim.lr"),
        ("optim.final_lr=0.5", "optim.final_lr_frac"),
        ("num_vector=8", "num_vectors"),
        ("stopmargin=1", "stop_margin"),
        ("loss.magrin=1", "loss.margin"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_valid_one(override, nearest):
    with pytest.raises(RecipeError) as error:
        load_recipe(None, [override])
    assert override.split("=")[0] in str(error.value)
    assert str(error.value).endswith(nearest)


@pytest.mark.parametrize(
    "override",
    [
        "optim.lr=-0.01",
        "optim.beta1=1",
        "optim.final_lr_frac=1.5",
        "optim.decay=exponential",
        "loss.p=0.5",
        "loss.margin=0",
        "loss.name=hinge",
        "max_steps=0",
        "max_steps=2.5",
        "siblings=0",
        "num_vectors=0",
        "num_vectors=some",
        "stop_margin=0",
        "seed=-1",
        "start.name=zeros",
    ],
)
def test_a_value_out_of_range_is_refused_by_name_and_value(override):
    key, value = override.split("=")
    with pytest.raises(RecipeError) as error:
        load_recipe(None, [override])
    assert key in str(error.value) and value in str(error.value)


@pytest.mark.parametrize("override", ["optim.lr", "=3", "num_vectors.deep=3"])
def test_an_override_that_is_not_key_and_value_is_refused(override):
    with pytest.raises(RecipeError, match="--set|num_vectors"):
        load_recipe(None, ["num_vectors=3", override])


def test_a_loss_that_is_satisfied_before_the_attempt_is_refused():
    with pytest.raises(RecipeError, match="must be at least stop_margin = 2.0"):
        load_recipe(None, ["stop_margin=2.0", "loss.margin=1.5"])
    assert load_recipe(None, ["stop_margin=2.0", "loss.margin=1.5", "loss.name=cross_entropy"]).stop_margin == 2.0


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("max_steps = 77\n[optim]\nlr = 0.5\nbeta1 = 0.7\n")
    recipe = load_recipe(path, ["optim.lr=0.25", "loss.name=squared_hinge", "start.name = 'mean'"])
    assert (recipe.max_steps, recipe.optim.lr, recipe.optim.beta1) == (77, 0.25, 0.7)
    assert (recipe.loss.name, recipe.start.name) == ("squared_hinge", "mean")
    assert recipe.optim.beta2 == Recipe().optim.beta2


@pytest.mark.parametrize("content", [None, b"max_steps = ", b"\xff\xfe"], ids=["missing", "not TOML", "not UTF-8"])
def test_a_file_that_cannot_be_read_is_named(content, tmp_path):
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match="recipe.toml"):
        load_recipe(path)


def test_the_hash_follows_the_values_and_nothing_else(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("[optim]\nlr = 0.5\n[loss]\np = 6\n")
    assert load_recipe(path).hash == load_recipe(None, ["loss.p=6.0", "optim.lr=0.5"]).hash
    assert Recipe.model_validate(json.loads(load_recipe(path).model_dump_json())).hash == load_recipe(path).hash
    hashes = {load_recipe(None, [change]).hash for change in ("seed=0", "seed=1", "loss.p=5", "optim.lr=0.5")}
    assert len(hashes) == 4 and all(len(value) == 16 for value in hashes)


@pytest.mark.parametrize("key", valid_keys())
def test_every_key_can_be_set_to_what_it_is(key):
    assert load_recipe(None, [f"{key}={attrgetter(key)(Recipe())}"]) == Recipe()


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().seed = 1


def test_more_margin_is_asked_of_the_loss_and_of_the_stop_alike():
    recipe = load_recipe(None, ["stop_margin=0.5", "loss.margin=0.75"]).with_margins_times(3.0)
    assert (recipe.stop_margin, recipe.loss.margin) == (1.5, 2.25)
    assert recipe.optim == Recipe().optim
