"""Search spaces: every draw is a recipe, parameters appear where they apply, the base is one of the draws."""

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.recipe import Recipe, load_recipe, to_toml, valid_keys
from engine.recipe.sections import LIKELIHOODS
from engine.settings import SettingsError
from tests.tune_spaces.draws import ALMOST_ONE, Shares, drawn
from tune_spaces.spaces import SPACES, space
from tune_spaces.spaces.draw import DEFAULTS
from tune_spaces.spaces.space import DiceTrial
from tune_spaces.study import SAMPLERS

ROOT = Path(__file__).parents[2]
RECIPES = {path.stem: load_recipe(path) for path in sorted((ROOT / "recipes").glob("*.toml"))}
EVERY_SPACE = pytest.mark.parametrize("name", SPACES)
NUM_DRAWS = 200

BASES = [
    *RECIPES.values(),
    load_recipe(None, ["stop_margin=5", "loss.margin=6"]),
    load_recipe(None, ["stop_margin=2", "loss.name=cross_entropy", "loss.patience=0"]),
    load_recipe(None, ["context.name=mixer", "terms.reinforce=0.1"]),
    load_recipe(None, ["stages=[{until=1, set={context={name='mixer'}}}]", "terms.rloo=0.1"]),
    load_recipe(None, ["max_steps=1", "start.name=neighbour", "optim.lr=100"]),
]
"""What a search may start from: margins above a space's range, rewards it may take away, one step."""

TRAINED = ("curriculum", "full")
"""Spaces that say how a text is trained."""

SHARES = st.lists(st.sampled_from((0.0, 0.5, ALMOST_ONE)) | st.floats(0, ALMOST_ONE), min_size=1, max_size=24)


def assert_written_and_read(recipe: Recipe, folder: Path) -> None:
    """The same recipe from its TOML file and from JSON."""
    path = folder / "recipe.toml"
    path.write_text(to_toml(recipe, "a draw"), encoding="utf-8")
    again = load_recipe(path)
    assert again == recipe and again.hash == recipe.hash
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@EVERY_SPACE
def test_every_draw_is_a_recipe_that_its_file_gives_again(name, tmp_path):
    hashes = set()
    for recipe, _ in drawn(name, NUM_DRAWS):
        assert_written_and_read(recipe, tmp_path)
        hashes.add(recipe.hash)
    assert len(hashes) > 0.9 * NUM_DRAWS


@EVERY_SPACE
@settings(max_examples=NUM_DRAWS, deadline=None, derandomize=True, database=None)
@given(shares=SHARES, base=st.sampled_from(BASES))
def test_the_ends_of_all_ranges_are_recipes_whatever_the_base(tmp_path_factory, name, shares, base):
    recipe = SPACES[name].draw(DiceTrial(Shares(shares)), base)
    assert_written_and_read(recipe, tmp_path_factory.getbasetemp())
    asked = ("stop_margin", "end_of_text", "seed", "noise_factor", "margin_growth", "max_steps")
    assert [getattr(recipe, key) for key in asked] == [getattr(base, key) for key in asked]
    if name in TRAINED:
        assert recipe.start.name != "neighbour"
        assert not recipe.stages or recipe.context.name == "teacher_forcing", "every stage says its own"


MARGINS = {"violation_mix", "violation_norm", "squared_hinge", "hinge", "soft_hinge"}
SAMPLED = {"reinforce", "rloo", "minimum_risk"}
MIXED = {"scheduled_sampling", "embedding_mix", "two_pass"}
SOFT = {"soft_decoding", "gumbel_softmax"}


def terms(recipe: Recipe) -> set[str]:
    """The main term, the one that takes over from it, and those added."""
    norm = {"violation_norm"} if recipe.loss.name in LIKELIHOODS and recipe.loss.patience else set()
    return {recipe.loss.name} | norm | {name for name, weight in recipe.terms if weight != 0}


def policy(recipe: Recipe) -> str:
    """What is read where no stages say it."""
    return "stages'" if recipe.stages else recipe.context.name


APPLIES: dict[str, Callable[[Recipe], bool]] = {
    "loss.margin": lambda r: bool(terms(r) & MARGINS),
    "loss.margin_factor.on": lambda r: bool(terms(r) & MARGINS),
    "loss.p": lambda r: bool(terms(r) & {"violation_mix", "violation_norm"}),
    "loss.temperature": lambda r: bool(terms(r) & set(LIKELIHOODS)),
    "loss.patience": lambda r: r.loss.name in LIKELIHOODS,
    "loss.gamma": lambda r: "focal" in terms(r),
    "loss.leading_weight": lambda r: r.loss.num_leading > 0,
    "knobs.contrast_rho": lambda r: r.terms.simctg != 0,
    "knobs.ngram": lambda r: r.terms.sequence_unlikelihood != 0,
    "knobs.autoregressive_every": lambda r: r.terms.autoregressive != 0,
    "knobs.samples": lambda r: bool(terms(r) & SAMPLED),
    "knobs.sample_temperature": lambda r: bool(terms(r) & SAMPLED),
    "knobs.reward": lambda r: bool(terms(r) & SAMPLED),
    "knobs.baseline_decay": lambda r: r.terms.reinforce != 0,
    "knobs.risk_sharpness": lambda r: r.terms.minimum_risk != 0,
    "knobs.manifold": lambda r: r.terms.manifold != 0,
    "context.name.on": lambda r: not r.stages,
    "context.name": lambda r: policy(r) not in ("stages'", "teacher_forcing"),
    "context.eps.kind": lambda r: policy(r) in MIXED,
    "context.own_token": lambda r: policy(r) in {"scheduled_sampling", "embedding_mix", "free_running"},
    "context.num_passes": lambda r: policy(r) == "two_pass",
    "context.forced_frac.kind": lambda r: policy(r) == "mixer",
    "context.temperature.kind": lambda r: policy(r) in SOFT,
    "context.learn_temperature": lambda r: policy(r) in SOFT,
    "context.straight_through": lambda r: policy(r) == "gumbel_softmax",
    "context.top_k.on": lambda r: policy(r) == "soft_decoding",
    "context.min_p.on": lambda r: policy(r) == "soft_decoding",
    "context.guidance": lambda r: policy(r) in SOFT and r.context.guidance_alpha != 0,
    "noise.prompt": lambda r: not r.stages and r.noise.kind != "none",
    "noise.read.on": lambda r: not r.stages and r.noise.kind != "none",
    "curriculum.growth": lambda r: not r.stages,
    "curriculum.first": lambda r: r.curriculum.growth in ("one_token", "geometric"),
    "curriculum.factor": lambda r: r.curriculum.growth == "geometric",
    "curriculum.patience": lambda r: r.curriculum.growth == "bisect",
    "stages.count": lambda r: bool(r.stages),
    "stages.0.until": lambda r: bool(r.stages),
    "stages.2.until": lambda r: len(r.stages) > 3,
    "stages.0.gate_accuracy": lambda r: bool(r.stages) and r.stages[0].gate == "accuracy",
    "stages.4.set.context.name.on": lambda r: len(r.stages) == 5,
    "stages.0.set.context.eps": lambda r: bool(r.stages) and r.by_stage()[0].context.name in MIXED,
    "parameterisation.width": lambda r: r.parameterisation.name == "mlp",
    "parameterisation.rank": lambda r: r.parameterisation.name == "low_rank",
    "parameterisation.sharpness": lambda r: r.parameterisation.name == "convex",
    "optim.beta2": lambda r: r.optim.name != "sgd",
    "optim.final_lr_frac": lambda r: r.optim.decay != "constant",
    "growth": lambda r: r.attempts > 1,
}
"""What applies when, read off the recipe that came out."""

TOPICS = {
    "losses": ("loss.", "knobs."),
    "curriculum": ("context.", "noise.", "curriculum.", "stages."),
    "full": ("",),
}


@pytest.mark.parametrize("name", TOPICS)
def test_parameters_appear_where_they_apply_and_nowhere_else(name):
    expected = {key: applies for key, applies in APPLIES.items() if key.startswith(TOPICS[name])}
    seen = set()
    for recipe, names in drawn(name, 300):
        assert {key for key, applies in expected.items() if applies(recipe)} == names & set(expected)
        seen |= names
    assert set(expected) <= seen


def test_quick_asks_for_a_margin_only_where_the_loss_has_one():
    for recipe, names in drawn("quick", 50):
        assert names - {"loss.margin"} == {"optim.lr", "optim.beta1", "loss.name"}
        assert ("loss.margin" in names) == (recipe.loss.name != "cross_entropy")


def test_every_switch_is_off_at_something_that_does_nothing():
    names = {name for _, names in drawn("full", 100) for name in names if name.endswith(".on")}
    keys = {name.removesuffix(".on").split(".set.")[-1] for name in names} - {"terms.position", "terms.rollout"}
    off = {}
    for key in keys:
        section, _, field = key.rpartition(".")
        off[key] = (DEFAULTS[section] if section else DEFAULTS)[field]
    neutral = {"loss.margin_factor": 1, "loss.prefix_weight": 1, "context.name": "teacher_forcing", "stages": [],
               "noise.kind": "none", "optim.align_to": "none", "parameterisation.name": "direct"}  # fmt: skip
    assert off == {key: neutral.get(key, 0) for key in keys} and len(off) > 15


@EVERY_SPACE
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_base_recipe_is_a_draw_that_can_be_tried_first(name, recipe):
    base = RECIPES[recipe]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(SPACES[name].centre(base))
    again = SPACES[name].draw(study.ask(), base)
    if recipe in ("four_stage",) and name in (
        "curriculum",
        "full",
    ):  # schedules within stages are not searched
        assert [stage.until for stage in again.stages] == [stage.until for stage in base.stages]
        assert [stage.context.name for stage in again.by_stage()] == [stage.context.name for stage in base.by_stage()]
    else:
        assert changes(again, base) == OUTSIDE.get((name, recipe), {})


OUTSIDE = {
    ("quick", "memory_tokens"): {},
    ("quick", "per_sample_cramming"): {"optim": {"lr": 0.02}},
}
"""What of a shipped recipe lies outside a space, as the nearest value in it."""


def changes(recipe: Recipe, base: Recipe) -> dict:
    """Sections and keys in which a recipe is not the base."""
    ours, theirs = recipe.model_dump(), base.model_dump()
    return {
        section: {key: value for key, value in ours[section].items() if value != theirs[section][key]}
        if isinstance(ours[section], dict)
        else ours[section]
        for section in ours
        if ours[section] != theirs[section]
    }


def test_what_lies_outside_a_space_begins_at_the_nearest_value_in_it():
    far = ["optim.lr=100", "optim.beta1=0.999", "start.name=neighbour", "siblings=9", "num_vectors=12",
           "terms.rloo=5", "context.name=two_pass", "context.num_passes=8",
           'loss.margin_factor={kind="exponential",base=0.5}']  # fmt: skip
    centre = SPACES["full"].centre(load_recipe(None, far))
    expected = {"optim.lr": 20, "optim.beta1": 0.99, "start.name": "target", "siblings": 4, "num_vectors": 8,
                "terms.rollout": "rloo", "terms.rloo": 1, "context.num_passes": 3,
                "loss.margin_factor.kind": "constant", "loss.margin_factor": 1}  # fmt: skip
    assert {key: centre[key] for key in expected} == expected


def test_a_mixer_without_a_reward_is_given_one_where_it_is_read():
    for recipe, names in drawn("curriculum", NUM_DRAWS):
        for number, stage in enumerate(recipe.by_stage()):
            place = f"stages.{number}.set." if recipe.stages else ""
            assert (f"{place}terms.rloo" in names) == (stage.context.name == "mixer") == (stage.terms.rloo > 0)


def test_stages_draw_contexts_noise_and_loss_weights_together():
    policies = set()
    for recipe, _ in drawn("curriculum", NUM_DRAWS):
        for stage in recipe.by_stage() if recipe.stages else ():
            if stage.noise.kind != "none" and stage.terms.simctg > 0 and stage.loss.name != recipe.loss.name:
                policies.add(stage.context.name)
    assert len(policies) > 5


def test_weights_change_over_the_attempt_where_no_stages_say_them():
    weights = [recipe.terms.simctg for recipe, _ in drawn("curriculum", NUM_DRAWS) if not recipe.stages]
    assert {getattr(weight, "kind", "number") for weight in weights} >= {"number", "linear", "cosine", "piecewise"}


def test_a_stage_drawn_to_end_before_the_one_before_it_hardly_lasts():
    ends = [[stage.until for stage in recipe.stages] for recipe, _ in drawn("curriculum", NUM_DRAWS) if recipe.stages]
    assert all(end == sorted(set(end)) and end[-1] == 1 for end in ends)
    steps = [after - before for end in ends for before, after in zip(end, end[1:], strict=False)]
    assert min(steps) == pytest.approx(0.01)


def test_a_space_is_found_by_name_or_path_and_a_wrong_name_is_told_the_nearest(tmp_path):
    assert space("losses") is SPACES["losses"]
    path = tmp_path / "mine.toml"
    path.write_text((ROOT / "tune_spaces" / "spaces" / "quick.toml").read_text())
    assert space(str(path)).draw(DiceTrial(Shares([0.25])), Recipe()).optim.lr == pytest.approx(0.02 * 1000**0.25)
    with pytest.raises(SettingsError, match=r"space loses: must be one of quick, .*; the nearest is losses"):
        space("loses")


def test_optuna_learns_from_trials_of_the_widest_space_and_its_parameters_are_the_recipes_values():
    base = load_recipe(None, ["stop_margin=5", "loss.margin=6"])
    study = optuna.create_study(sampler=SAMPLERS["tpe"](0))
    study.enqueue_trial(SPACES["full"].centre(base))
    seen = set()
    for number in range(12):
        trial = study.ask()
        recipe = SPACES["full"].draw(trial, base)
        assert (recipe == base) == (number == 0)
        values = {key: attrgetter(key)(recipe) for key in trial.params if key in valid_keys()}
        assert values == {key: trial.params[key] for key in values}
        seen |= set(values)
        study.tell(trial, abs(recipe.optim.lr - 1))
    assert {"loss.margin", "optim.lr", "siblings", "start.name"} <= seen
