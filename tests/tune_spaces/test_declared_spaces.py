"""Spaces and presets from TOML files: what they may say, and what is refused in one line."""

import random
from pathlib import Path
from typing import get_args

import pytest

from engine.recipe import Recipe, load_recipe
from engine.settings import SettingsError
from tune_spaces.objective import OBJECTIVES
from tune_spaces.spaces import SPACES, Preset, preset, space
from tune_spaces.spaces.presets import FOLDER, preset_names
from tune_spaces.spaces.space import DiceTrial
from tune_spaces.study import SAMPLERS

DOCS = Path(__file__).parents[2] / "docs" / "search_spaces.md"

EVERYTHING = """
description = "one of each"

[parameters]
knobs.contrast_rho = { kind = "float", low = 0.0, high = 1.0, when = { terms.simctg.on = [true] } }
terms.simctg = { kind = "float", low = 0.01, high = 1.0, log = true, optional = true }
"terms.rloo" = { kind = "float", low = 0.01, high = 1.0, log = true, optional = true }
terms.reinforce = { kind = "float", low = 0.01, high = 1.0, log = true, optional = true }
context.name = { kind = "choice", choices = ["teacher_forcing", "scheduled_sampling", "mixer"] }
context.eps = { kind = "schedule", low = 0.0, high = 1.0, when = { "context.name" = ["scheduled_sampling"] } }
max_steps = { kind = "int", low = 100, high = 900, step = 200 }
num_vectors = { kind = "choice", choices = ["auto", 4, 8] }
loss.margin = { kind = "float", low = 0.1, high = 4.0 }
curriculum.growth = { kind = "choice", choices = ["none", "geometric"] }
curriculum.first = { kind = "int", low = 1, high = 64, log = true, when = { curriculum.growth = ["geometric"] } }

[parameters.knobs.samples]
kind = "int"
low = 2
high = 8
when = [{ terms.rloo.on = [true] }, { terms.reinforce.on = [true], loss.name = ["cross_entropy"] }]
"""


@pytest.fixture
def everything(tmp_path):
    path = tmp_path / "everything.toml"
    path.write_text(EVERYTHING)
    return space(str(path))


def test_a_declared_space_draws_every_kind_under_its_conditions(everything):
    dice, seen = random.Random(0), set()
    for _ in range(200):
        trial = DiceTrial(dice)
        recipe = everything.draw(trial, Recipe())
        names = {asked[0] for asked in trial.asked}
        assert ("knobs.contrast_rho" in names) == (recipe.terms.simctg != 0)
        assert ("context.eps.kind" in names) == (recipe.context.name == "scheduled_sampling")
        assert ("curriculum.first" in names) == (recipe.curriculum.growth == "geometric")
        if recipe.context.name != "mixer":  # it is given a reward after all that was declared
            assert ("knobs.samples" in names) == (recipe.terms.rloo != 0 or recipe.terms.reinforce != 0)
        assert recipe.max_steps in (100, 300, 500, 700, 900) and recipe.loss.margin >= recipe.stop_margin
        assert recipe.num_vectors in ("auto", 4, 8) and 1 <= recipe.curriculum.first <= 64
        seen |= names
    assert {"context.eps.kind", "knobs.samples", "knobs.contrast_rho", "curriculum.first", "max_steps"} <= seen


def test_a_declared_space_begins_at_the_base(everything):
    base = load_recipe(None, ["max_steps=444", "terms.simctg=0.25", "context.name=scheduled_sampling", "num_vectors=9",
                              'context.eps={kind="linear",start=1,end=0.25}'])  # fmt: skip
    centre = everything.centre(base)
    assert (centre["max_steps"], centre["terms.simctg"], centre["num_vectors"]) == (500, 0.25, 8)
    assert (centre["terms.simctg.on"], centre["terms.rloo.on"]) == (True, False)
    assert (centre["context.eps.kind"], centre["context.eps.start"], centre["context.eps.end"]) == ("linear", 1, 0.25)


STAGED = """
[parameters]
stages.count = { kind = "int", low = 1, high = 3 }
stages.0.until = { kind = "float", low = 0.1, high = 1.0 }
stages.1.until = { kind = "float", low = 0.1, high = 1.0 }
stages.0.gate = { kind = "choice", choices = ["stalled", "exact"], optional = true }
stages.0.patience = { kind = "int", low = 5, high = 50, when = { stages.0.gate = ["stalled"] } }
stages.1.set.loss.name = { kind = "choice", choices = ["violation_norm", "cross_entropy"] }
stages.1.set.context.name = { kind = "choice", choices = ["teacher_forcing", "scheduled_sampling"] }
terms.simctg = { kind = "float", low = 0.1, high = 1.0, when = { stages.1.set.loss.name = ["violation_norm"] } }

[parameters.stages.1.set.context.eps]
kind = "schedule"
low = 0.0
high = 1.0
shapes = ["linear", "cosine"]
parts = { start = [0.8, 1.0], end = [0.0, 0.2] }
when = { stages.1.set.context.name = ["scheduled_sampling"] }
"""


def test_stages_and_their_schedules_are_drawn_from_a_file(tmp_path):
    path = tmp_path / "staged.toml"
    path.write_text(STAGED)
    staged, dice, seen = space(str(path)), random.Random(0), set()
    for _ in range(200):
        trial = DiceTrial(dice)
        recipe = staged.draw(trial, Recipe())
        names, number = {asked[0] for asked in trial.asked}, len(recipe.stages)
        assert {name for name in names if name.startswith("stages.1")} == set() or number > 1
        assert ("stages.0.patience" in names) == (recipe.stages[0].gate == "stalled")
        assert ("terms.simctg" in names) == (number > 1 and recipe.stages[1].set["loss"]["name"] == "violation_norm")
        if "stages.1.set.context.eps.kind" in names:
            eps = recipe.stages[1].set["context"]["eps"]
            assert eps["kind"] in ("linear", "cosine") and eps["start"] >= 0.8 and eps["end"] <= 0.2
        seen |= names | {number}
    assert {1, 2, 3, "stages.1.set.context.eps.start", "terms.simctg", "stages.0.gate.on"} <= seen


def test_a_file_that_says_nothing_of_how_many_stages_there_are_wants_them_of_the_base(tmp_path):
    path = tmp_path / "second.toml"
    path.write_text("[parameters]\nstages.1.set.terms.simctg = {kind='float',low=0.1,high=1}")
    second = space(str(path))
    two = load_recipe(None, ["stages=[{until=0.5, set={terms={simctg=0.3}}}, {until=1, set={terms={simctg=0.2}}}]"])
    assert second.centre(two) == {"stages.1.set.terms.simctg": 0.2}
    drawn = second.draw(DiceTrial(random.Random(0)), two)
    assert drawn.stages[0] == two.stages[0] and drawn.stages[1].set["terms"]["simctg"] != 0.2
    with pytest.raises(SettingsError, match="stages.1.set.terms.simctg: the recipe has 0 stages; add stages.count"):
        second.centre(Recipe())


CHANGES = {
    "a range": ("high = 900", "high = 1100"),
    "a scale": ("high = 4.0 }", "high = 4.0, log = true }"),
    "a choice": ('["auto", 4, 8]', '["auto", 4, 16]'),
    "a condition": ('when = { curriculum.growth = ["geometric"] }', 'when = { curriculum.growth = ["none"] }'),
    "a condition on what is not searched": ('loss.name = ["cross_entropy"]', 'loss.name = ["focal"]'),
    "an option": ("log = true, optional = true", "log = true, optional = false"),
    "a key": ("terms.simctg = {", "terms.entropy = {"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_follows_what_a_file_says(change, everything, tmp_path):
    path = tmp_path / "changed.toml"
    path.write_text(EVERYTHING.replace(*CHANGES[change], 1))
    assert path.read_text() != EVERYTHING and space(str(path)).fingerprint != everything.fingerprint


def test_the_fingerprint_does_not_follow_comments_and_names(everything, tmp_path):
    path = tmp_path / "renamed.toml"
    path.write_text("# mine" + EVERYTHING.replace("one of each", "another name"))
    assert space(str(path)).fingerprint == everything.fingerprint


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "parameters = {}: Field required"),
        ("parameters = 3", "parameters = 3: "),
        ("[parameters]", "parameters = {}: "),
        ("[parameters]\noptim.lr = 3", "parameters.optim = {'lr': 3}: "),
        ("[parameters]\noptim.learning_rate = RANGE", "optim.learning_rate: no key of a recipe; the nearest is"),
        ("[parameters]\nlr = RANGE", "lr: no key of a recipe; the nearest is optim.lr"),
        ("[parameters]\nstop_margin = RANGE", "stop_margin is not searched: it says what is asked of a prompt"),
        ("[parameters]\nstages = RANGE", "stages is not searched: name what of them is: stages.count"),
        ("[parameters]\nstages.count = RANGE", "stages.count: must be { kind = 'int', low = 1, high = 8 }"),
        ("[parameters]\nstages.count = {kind='int',low=2,high=9}", "stages.count: must be { kind = 'int'"),
        ("[parameters]\nstages.8.until = RANGE", "stages.8.until: a space has at most 8 stages"),
        ("[parameters]\nstages.0.untill = RANGE", "stages.0.untill: no key of a recipe; the nearest is stages.0.until"),
        ("[parameters]\nstages.0.set.contxt.eps = RANGE", "the nearest is stages.0.set.context.eps"),
        ("[parameters]\nstages.0.set.start.scale = RANGE", "stages.0.set.start.scale: no key of a recipe"),
        ("[parameters]\nstages.0.until = {kind='float',low=0,high=1}", "stages.0.until = 0.0: a recipe does not"),
        (
            "[parameters]\nstages.0.set.loss.p = {kind='float',low=0.5,high=2}",
            "stages.0.set.loss.p = 0.5: a recipe does not take it",
        ),
        ("[parameters]\nloss.p = {kind='float',low=2,high=4,when={stages.count=[2]}}", "stages.count: no condition"),
        (
            "[parameters]\ncontext.eps = {kind='schedule',low=0,high=0.9,shapes=['exponential']}",
            "shapes = 'exponential': must be of constant, linear",
        ),
        (
            "[parameters]\ncontext.eps = {kind='schedule',low=0,high=1,shapes=['linear'],parts={floor=[0,1]}}",
            "parts.floor: must be of end, start",
        ),
        (
            "[parameters]\ncontext.eps = {kind='schedule',low=0,high=1,parts={start=[0,2]}}",
            "context.eps = {'kind': 'linear', 'start': 2.0, 'end': 2.0}: a recipe does not take it",
        ),
        ("[parameters]\nstart.name = {kind='choice',choices=['mean','neighbour']}", "would depend on its company"),
        ("[parameters]\noptim.lr = {kind='float',low=0.1,hihg=1}", "parameters.optim.lr."),
        ("[parameters]\noptim.lr = {kind='float',low=0.1,high=1,lo=1}", "optim.lr.lo: unknown; the nearest valid"),
        ("[parameters]\noptim.lr = {low=0.1,high=1}", "discriminator 'kind'"),
        ("[parameters]\noptim.lr = {kind='flaot',low=0.1,high=1}", "'float'"),
        ("[parameters]\noptim.lr = {kind='float',low=1,high=0.1}", "low must be below high"),
        ("[parameters]\noptim.lr = {kind='float',low=0,high=1,log=true}", "must be > 0 where log is true"),
        ("[parameters]\noptim.lr = {kind='float',low=1,high=1000}", "optim.lr = 1000.0: a recipe does not take it"),
        ("[parameters]\noptim.beta1 = {kind='float',low=0,high=1}", "optim.beta1 = 1.0: a recipe does not take it"),
        ("[parameters]\nterms.rloo = {kind='float',low=0,high=inf}", "parameters.terms.rloo.high = inf"),
        ("[parameters]\nsiblings = {kind='float',low=1,high=4}", "siblings = 2.146: a recipe does not take it"),
        ("[parameters]\nnum_vectors = {kind='int',low=0,high=4}", "num_vectors = 0: a recipe does not take it"),
        ("[parameters]\nsiblings = {kind='int',low=1,high=4,step=2}", "step = 2: must lead from low to high"),
        ("[parameters]\nloss.name = {kind='choice',choices=['hinge','hnge']}", "loss.name = 'hnge': a recipe"),
        ("[parameters]\nloss.name = {kind='choice',choices=['hinge']}", "loss.name.choices = "),
        ("[parameters]\noptim.lr = {kind='schedule',low=0.1,high=1}", "optim.lr = {'kind': 'linear'"),
        ("[parameters]\nloss.p = {kind='float',low=2,high=4,when={loss.nam=['hinge']}}", "the nearest is loss.name"),
        ("[parameters]\nloss.p = {kind='float',low=2,high=4,when={loss.name=['hnge']}}", "when.loss.name = 'hnge'"),
        ("[parameters]\nloss.p = {kind='float',low=2,high=4,when={loss.margin.on=[1]}}", "must be true or false"),
        ("[parameters]\nloss.p = {kind='float',low=2,high=4,when=3}", "loss.p.when"),
        (
            "[parameters]\nloss.p = {kind='float',low=2,high=4,when={loss.margin.on=[true]}}\n"
            "loss.margin = {kind='float',low=2,high=4,when={loss.p.on=[true]}}",
            "loss.p waits for loss.margin waits for loss.p: conditions must not go round",
        ),
        ("[parameters", "not a TOML file"),
        ("parameter = 3\n[parameters]\noptim.lr = RANGE", "parameter: unknown; the nearest valid key is parameters"),
        (None, "no such file"),
    ],
)  # fmt: skip
def test_a_file_that_no_search_can_use_is_refused_in_one_line(content, complaint, tmp_path):
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_text(content.replace("RANGE", "{kind='float',low=0.1,high=1}"))
    with pytest.raises(SettingsError) as error:
        space(str(path))
    assert str(error.value).startswith(f"space {path}: ") and complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_the_spaces_in_the_documentation_are_spaces(tmp_path):
    path = tmp_path / "documented.toml"
    first, second = (block.partition("```")[0] for block in DOCS.read_text().split("```toml\n")[1:])
    path.write_text(first)
    assert set(space(str(path)).centre(Recipe())) == {"optim.lr", "siblings", "context.name", "terms.rloo.on"}
    path.write_text(second)
    assert {"stages.count", "stages.0.gate", "stages.1.set.context.name"} < set(space(str(path)).centre(Recipe()))


def test_a_declared_space_has_a_bounded_number_of_parameters(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text("[parameters]\n" + "".join(f"a{n} = {{kind='int',low=1,high=2}}\n" for n in range(65)))
    with pytest.raises(SettingsError, match="at most 64 items"):
        space(str(path))


def test_every_shipped_preset_names_a_space_and_says_what_it_is_for():
    assert preset_names() == sorted(SPACES)
    for name in preset_names():
        settings = preset(name)
        assert settings.space == name and settings.texts >= 16
        assert preset(str(FOLDER / f"{name}.toml")) == settings
        assert (FOLDER / f"{name}.toml").read_text().startswith("# ")
    assert (preset("quick").trials, preset("quick").texts) == (40, 16)


@pytest.mark.parametrize(("field", "known"), [("sampler", SAMPLERS), ("objective", OBJECTIVES)])
def test_a_preset_takes_every_name_that_a_search_knows(field, known):
    assert set(get_args(Preset.model_fields[field].annotation)) == set(known)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("trial = 3", "trial: unknown; the nearest is trials"),
        ("trials = 0", "trials = 0: "),
        ("trials = 2.5", "trials = 2.5: "),
        ("sampler = 'grid'", "sampler = 'grid': "),
        ("texts = 1", "texts = 1: "),
        ("texts", "not a TOML file"),
        (None, "no such file"),
    ],
)
def test_a_preset_that_no_search_can_use_is_refused_in_one_line(content, complaint, tmp_path):
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError) as error:
        preset(str(path))
    assert str(error.value).startswith(f"preset {path}: ") and complaint in str(error.value)


def test_a_wrong_name_of_a_preset_is_told_the_nearest():
    with pytest.raises(SettingsError, match="preset fast_quick: must be one of .*; the nearest is quick"):
        preset("fast_quick")
