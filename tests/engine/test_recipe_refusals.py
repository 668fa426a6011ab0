"""Recipes that are refused: by which name, and with which reason."""

import pytest

from engine.recipe import RecipeError, load_recipe
from tests.engine.staged import staged


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("optim.learning_rate=1", "optim.lr"),
        ("optim.final_lr=0.5", "optim.final_lr_frac"),
        ("num_vector=8", "num_vectors"),
        ("stopmargin=1", "stop_margin"),
        ("loss.magrin=1", "loss.margin"),
        ("context.epsilon=1", "context.eps"),
        ("terms.unlikelyhood=1", "terms.unlikelihood"),
        ("stages=[{until=1.0,lenght_frac=0.5}]", "stages.0.length_frac"),
        ("stages=[{until=1.0,set={optim={learning_rate=1}}}]", "stages.0.set.optim.lr"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_valid_one(override, nearest):
    with pytest.raises(RecipeError) as error:
        load_recipe(None, [override])
    wrong = override.split("=")[0] if "stages" not in override else nearest.rpartition(".")[0] + "."
    assert str(error.value).startswith(f"recipe key {wrong}")
    assert str(error.value).endswith(f": unknown; the nearest valid key is {nearest}")


@pytest.mark.parametrize(
    "override",
    [
        "optim.lr=-0.01",
        "optim.beta1=1",
        "optim.final_lr_frac=1.5",
        "optim.decay=exponential",
        "loss.p=0.5",
        "loss.margin=0",
        "loss.name=unlikelihood",
        "loss.gamma=-1",
        "loss.weight=heavy",
        "terms.simctg=strong",
        "knobs.samples=1",
        "context.name=teacher",
        "context.min_p=1",
        "noise.kind=loud",
        "parameterisation.width=0",
        "optim.align_to=simctg",
        "optim.weight_decay=1",
        "curriculum.growth=fast",
        "curriculum.factor=1",
        "max_positions=-1",
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
    alone = ["loss.name=cross_entropy", "loss.patience=0"]
    assert load_recipe(None, ["stop_margin=2.0", "loss.margin=1.5", *alone]).stop_margin == 2.0


@pytest.mark.parametrize("content", [None, b"max_steps = ", b"\xff\xfe"], ids=["missing", "not TOML", "not UTF-8"])
def test_a_file_that_cannot_be_read_is_named(content, tmp_path):
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match="recipe.toml"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ('{kind="piecewise",boundaries=[3],pieces=[1.0]}', "1 pieces for 1 boundaries"),
        ('{kind="piecewise",boundaries=[3,2],pieces=[1,2,3]}', "boundaries = [3.0, 2.0]: must be > 0 and rise"),
        ('{kind="piecewise",boundaries=[3],pieces=[1,{kind="cosine",start=1}]}', "eps.pieces.1.end"),
        ('{kind="lineer",start=1,end=0}', "'linear'"),
        ("{start=1,end=0}", "discriminator 'kind'"),
    ],
    ids=["too few pieces", "falling boundaries", "a piece without its end", "unknown kind", "no kind"],
)
def test_a_schedule_that_cannot_be_is_refused_by_key_and_reason(value, complaint):
    with pytest.raises(RecipeError) as error:
        load_recipe(None, [f"context.eps={value}"])
    assert str(error.value).startswith("context.eps") and complaint in str(error.value)


@pytest.mark.parametrize(
    ("last", "complaint"),
    [
        ("optim = {lr = -1}", "stages.1.set.optim.lr = -1: "),
        ("optim = 3", "stages.1.set.optim = 3: "),
        ("context = {eps = 'often'}", "stages.1.set.context.eps = 'often': "),
        ("context = {nome = 'mixer'}", "stages.1.set.context.nome: unknown; the nearest valid key is stages.1.set."),
        ("loss = {margin = 0.25}", "stages.1.set: loss.margin = 0.25: must be at least stop_margin = 0.5"),
        ("context = {name = 'mixer'}", "stages.1.set: context.name = 'mixer'"),
        ("start = {name = 'mean'}", "stages.1.set.start: a stage may change loss, "),
        ("curriculum = {first = 2}", "stages.1.set.curriculum: a stage may change loss, "),
    ],
)
def test_an_error_in_a_stage_names_the_stage_the_key_and_the_value(last, complaint, tmp_path):
    with pytest.raises(RecipeError) as error:
        staged(tmp_path, last)
    assert complaint in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ("[{until=0.5}]", "stages.until = [0.5]: must rise and end with 1"),
        ("[{until=0.5},{until=0.5},{until=1.0}]", "stages.until = [0.5, 0.5, 1.0]"),
        ("[{until=0.75},{until=0.5},{until=1.0}]", "stages.until = [0.75, 0.5, 1.0]"),
        ("[{until=1.0,length_frac=0.5}]", "stages.length_frac = 0.5: the last stage trains the whole text"),
        ("[{until=1.0,gate='never'}]", "stages.0.gate = 'never'"),
        ("[{until=1.5}]", "stages.0.until = 1.5"),
    ],
)
def test_stages_that_do_not_cover_the_attempt_are_refused(stages, complaint):
    with pytest.raises(RecipeError) as error:
        load_recipe(None, [f"stages={stages}"])
    assert complaint in str(error.value)


def test_stages_and_a_growing_prefix_exclude_each_other():
    with pytest.raises(RecipeError, match="curriculum.growth = 'bisect': stages set the length"):
        load_recipe(None, ["stages=[{until=1.0}]", "curriculum.growth=bisect"])


def test_a_loss_that_never_asks_for_the_margin_at_which_an_attempt_is_done_is_refused():
    never = ["loss.margin_factor=0.4", 'loss.margin_factor={kind="cosine",start=0.1,end=0.45}']
    for override in never:
        with pytest.raises(RecipeError, match=r"loss\.margin = 1\.0 times loss\.margin_factor, at most 0\.4.*0\.5"):
            load_recipe(None, [override])
        assert load_recipe(None, [override, "loss.name=cross_entropy", "loss.patience=0"])
    at_some_time = ["loss.margin_factor=0.5", 'loss.margin_factor={kind="linear",start=0.1,end=0.6}']
    for override in [*at_some_time, 'loss.margin_factor={kind="exponential",base=0.5}']:
        assert load_recipe(None, [override]).with_margins_times(3.7).stop_margin == pytest.approx(1.85)
    assert load_recipe(None, ["loss.margin=0.25", "loss.margin_factor=2"]).loss.margin == 0.25


def test_mixer_is_refused_without_a_reward():
    with pytest.raises(RecipeError, match="context.name = 'mixer'.*terms.reinforce or terms.rloo"):
        load_recipe(None, ["context.name=mixer"])
    assert load_recipe(None, ["context.name=mixer", "terms.rloo=0.1"]).context.name == "mixer"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("context.eps=7", r"context\.eps = 7.*7 at the first step: must lie between 0 and 1"),
        ("context.temperature=0", r"context\.temperature = 0.*must be > 0"),
        ('context.guidance_alpha={kind="linear",start=2,end=0}', r"context\.guidance_alpha = .*2 at the first step"),
        ("loss.margin_factor=-1", r"loss\.margin_factor = -1.*must be > 0"),
    ],
)
def test_shares_and_temperatures_out_of_range_are_refused_by_name(override, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe(None, [override])
