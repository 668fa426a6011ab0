"""Recipes: names, where values come from, stages, and the hash."""

import json
import tomllib
from operator import attrgetter
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from engine import contexts, curriculum, difficulty, frozen_lm, losses, parameterisation, schedules, soft_prompt
from engine.losses.rewards import REWARDS
from engine.recipe import Recipe, StoredRecipe, load_recipe, sections, valid_keys
from engine.schedules import Value, build_schedule
from tests.engine.staged import staged

DEFAULT = Path(__file__).parents[2] / "recipes" / "default.toml"

KEYS = [key for key in valid_keys() if key not in ("stages", "portfolio")]


def test_the_default_recipe_spells_out_every_default():
    values = tomllib.loads(DEFAULT.read_text())
    assert load_recipe(DEFAULT) == Recipe()
    assert Recipe.model_validate(values).model_dump(exclude={"stages", "portfolio"}) == values


@pytest.mark.parametrize("key", valid_keys())
def test_the_default_recipe_says_of_every_key_what_it_means_and_whether_it_takes_a_schedule(key):
    field, model = None, Recipe
    for name in key.split("."):
        field = model.model_fields[name]
        model = field.annotation
    assert field.description
    lines = DEFAULT.read_text().splitlines()
    mine = [line for line in lines if f"# {field.description}" in line]
    if key in ("stages", "portfolio"):
        assert len(mine) == 1 and f"# {key} = []" in lines
    else:
        assert any(line.startswith(f"{name} = ") for line in mine)
        assert all(line.endswith("; or a schedule") == (field.annotation == Value) for line in mine)


@pytest.mark.parametrize(
    ("section", "field", "implemented"),
    [
        (sections.LossRecipe, "name", losses.POSITION_TERMS),
        (sections.OptimRecipe, "decay", schedules.DECAYS),
        (sections.OptimRecipe, "align_to", {"none", *losses.POSITION_TERMS}),
        (sections.StartRecipe, "name", soft_prompt.STARTS),
        (sections.ContextRecipe, "name", contexts.POLICIES),
        (sections.ParameterisationRecipe, "name", parameterisation.PARAMETERISATIONS),
        (sections.ParameterisationRecipe, "serving_dtype", {"int8", *frozen_lm.DTYPES}),
        (sections.CurriculumRecipe, "growth", curriculum.GROWTH),
        (sections.CurriculumRecipe, "order", {"corpus", *difficulty.DIFFICULTIES}),
        (sections.StageRecipe, "gate", curriculum.GATES),
        (sections.KnobsRecipe, "reward", REWARDS),
    ],
)
def test_every_name_a_recipe_takes_is_implemented(section, field, implemented):
    assert set(get_args(section.model_fields[field].annotation)) == set(implemented)


def test_every_term_has_a_weight():
    assert set(sections.TermsRecipe.model_fields) == set(losses.TERMS)


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("max_steps = 77\n[optim]\nlr = 0.5\nbeta1 = 0.7\n")
    recipe = load_recipe(path, ["optim.lr=0.25", "loss.name=squared_hinge", "start.name = 'mean'"])
    assert (recipe.max_steps, recipe.optim.lr, recipe.optim.beta1) == (77, 0.25, 0.7)
    assert (recipe.loss.name, recipe.start.name) == ("squared_hinge", "mean")
    assert recipe.optim.beta2 == Recipe().optim.beta2


def test_the_hash_follows_the_values_and_nothing_else(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("[optim]\nlr = 0.5\n[loss]\np = 6\n")
    assert load_recipe(path).hash == load_recipe(None, ["loss.p=6.0", "optim.lr=0.5"]).hash
    assert Recipe.model_validate(json.loads(load_recipe(path).model_dump_json())).hash == load_recipe(path).hash
    hashes = {load_recipe(None, [change]).hash for change in ("seed=0", "seed=1", "loss.p=5", "optim.lr=0.5")}
    assert len(hashes) == 4 and all(len(value) == 16 for value in hashes)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_can_be_set_to_what_it_is(key):
    assert load_recipe(None, [f"{key}={attrgetter(key)(Recipe())}"]) == Recipe()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_changes_the_hash(key):
    assert with_another_value(key).hash != Recipe().hash


def with_another_value(key: str) -> Recipe:
    """The defaults, but for this key the first allowed value that differs."""
    section, _, name = key.rpartition(".")
    annotation = (type(getattr(Recipe(), section)) if section else Recipe).model_fields[name].annotation
    default = attrgetter(key)(Recipe())
    names = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    values = names or ([not default] if isinstance(default, bool) else [3, 0.25, 0.5, 7, 13, "a text"])
    for value in values:
        try:
            changed = Recipe.model_validate({section: {name: value}} if section else {name: value})
        except ValidationError:
            continue
        if attrgetter(key)(changed) != default:
            return changed
    raise AssertionError(f"{key}: none of {values} is another allowed value")


def test_stages_and_schedules_are_part_of_the_hash(tmp_path):
    lasts = ("", "[stages.set.optim]\nlr = 0.75", "[stages.set.terms]\nsimctg = 0.5")
    assert len({staged(tmp_path, last).hash for last in lasts} | {Recipe().hash}) == 4
    ends = (load_recipe(None, [f'context.eps={{kind="linear",start=1,end={end}}}']).hash for end in (0.25, 0.5))
    assert len(set(ends)) == 2


def test_a_piecewise_value_is_read_and_evaluated():
    value = '{kind="piecewise", boundaries=[3], pieces=[2.0, {kind="linear", start=1.0, end=0.0, num_steps=4}]}'
    schedule = build_schedule(load_recipe(None, [f"context.temperature={value}"]).context.temperature, 500)
    assert [schedule(step) for step in (0.0, 2.5, 3.0, 5.0, 7.0, 99.0)] == [2.0, 2.0, 1.0, 0.5, 0.0, 0.0]


def test_a_stage_differs_from_the_recipe_around_it_in_what_it_sets_and_nothing_else(tmp_path):
    recipe = staged(tmp_path, "loss = {name = 'cross_entropy'}\ncontext = {name = 'free_running', eps = 0.25}")
    first, second = recipe.by_stage()
    around = recipe.model_copy(update={"stages": ()})
    assert first == around.model_copy(update={"optim": around.optim.model_copy(update={"lr": 0.5})})
    assert (second.loss.name, second.context.name, second.context.eps) == ("cross_entropy", "free_running", 0.25)
    assert second.optim == around.optim and second.loss.margin == around.loss.margin
    plain = load_recipe(None, ["loss.patience=0"])
    assert plain.by_stage() == (plain,)


def test_a_likelihood_gives_way_to_the_violation_norm_unless_stages_or_growth_say_what_follows():
    likelihood, norm = load_recipe(None, ["loss.name=focal", "loss.patience=7"]).by_stage()
    assert likelihood.loss.name == "focal" and norm.loss.name == "violation_norm"
    assert norm.loss.model_copy(update={"name": "focal"}) == likelihood.loss
    for without in ("loss.patience=0", "loss.name=hinge", "curriculum.growth=block", "stages=[{until=1.0}]"):
        assert len(load_recipe(None, [without]).by_stage()) == 1


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().seed = 1


def test_more_margin_is_asked_of_the_loss_and_of_the_stop_alike():
    recipe = load_recipe(None, ["stop_margin=0.5", "loss.margin=0.75"]).with_margins_times(3.0)
    assert (recipe.stop_margin, recipe.loss.margin) == (1.5, 2.25)
    assert recipe.optim == Recipe().optim


def test_more_margin_is_asked_in_every_stage(tmp_path):
    raised = staged(tmp_path, "loss = {margin = 0.75}").with_margins_times(4.0)
    assert [recipe.loss.margin for recipe in raised.by_stage()] == [4.0, 3.0]
    assert {recipe.stop_margin for recipe in raised.by_stage()} == {2.0}


NEUTRAL = {"loss.temperature": 1.0, "loss.patience": 0, "start.scale": 1.0, "curriculum.block": 32}


def test_a_key_at_its_neutral_value_leaves_a_recipe_the_one_it_was():
    old = load_recipe(None, [f"{key}={value}" for key, value in NEUTRAL.items()])
    for key, value in NEUTRAL.items():
        section, name = key.split(".")
        assert name not in old.canonical()[section]
        changed = load_recipe(None, [f"{other}={v}" for other, v in (NEUTRAL | {key: 2 * value + 1}).items()])
        assert changed.canonical()[section][name] == 2 * value + 1 and changed.hash != old.hash
    written = {name: dict(section) for name, section in old.canonical().items() if isinstance(section, dict)}
    assert TypeAdapter(StoredRecipe).validate_python(written) == old, "a record of a version before the keys"
    assert TypeAdapter(StoredRecipe).validate_python(Recipe().model_dump(mode="json")) == Recipe()
    usual, patient, hasty = (
        load_recipe(None, [f"stages=[{{until=1.0{patience}}}]"]) for patience in ("", ", patience=20", ", patience=2")
    )
    assert usual.hash == patient.hash != hasty.hash


def test_the_hash_tells_what_is_computed_where_that_changed_under_the_same_values():
    """Leads are chased from the first step where a likelihood came first; no other recipe's hash may move."""
    for concerned in (["proof=beam"], ["proof=beam", "portfolio=[{}, {set={loss={patience=0}}}]"]):
        recipe = load_recipe(None, concerned)
        assert recipe.revisions == ("leads_first",)
        values = {key: value for key, value in recipe.canonical().items() if key != "revisions"}
        assert recipe.canonical() == values | {"revisions": ["leads_first"]}
        assert Recipe.model_validate(values) == recipe, "the values alone do not tell"
        assert [stage.loss.name for stage in recipe.of_member(0).by_stage()] == ["violation_norm"]
    for untouched in ([], ["proof=beam", "loss.patience=0"], ["proof=beam", "loss.name=hinge"]):
        assert "revisions" not in load_recipe(None, untouched).canonical()
    assert Recipe().hash == "6cccd9d9b0d37938", "of folders that there are; a default that changed changes it too"
