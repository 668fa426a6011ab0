"""Schedules against their formulas, at their ends and past them, and the recipe entries that build them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe import RecipeError, load_recipe
from engine.recipe.sections import ContextRecipe
from engine.schedules import (
    DECAYS,
    build_schedule,
    constant_schedule,
    cosine_schedule,
    decay_schedule,
    exponential_schedule,
    inverse_sigmoid_schedule,
    linear_schedule,
    logistic_schedule,
    piecewise_schedule,
)

STEPS = (0.0, 0.5, 1.0, 3.0, 7.0, 10.5, 11.0, 23.0, 101.0)
LATE = 1e6
"""The most steps a recipe may ask for."""


@pytest.mark.parametrize("name", DECAYS)
def test_a_decay_starts_at_its_start_and_never_rises(name):
    values = [decay_schedule(name, 3.0, 0.5, 11)(float(step)) for step in range(17)]
    assert values[0] == 3.0
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("name", "end"), [("constant", 3.0), ("cosine", 0.5), ("linear", 0.5)])
def test_a_decay_stays_at_its_end(name, end):
    schedule = decay_schedule(name, 3.0, 0.5, 11)
    assert schedule(11.0) == schedule(1000.0) == schedule(LATE) == pytest.approx(end)


@pytest.mark.parametrize(("schedule", "quarter"), [(linear_schedule, 6.0), (cosine_schedule, 4 + 4 * 0.5**0.5)])
def test_the_shape_between_the_ends_is_its_formula(schedule, quarter):
    assert schedule(8.0, 0.0, 12)(6.0) == pytest.approx(4.0)
    assert schedule(8.0, 0.0, 12)(3.0) == pytest.approx(quarter)


def test_an_unknown_decay_is_refused():
    with pytest.raises(KeyError, match="exponential"):
        decay_schedule("exponential", 1.0, 0.0, 10)


FORMULAS = {
    "constant": (constant_schedule(0.3), lambda i: 0.3),
    "linear": (linear_schedule(2.0, 0.5, 11), lambda i: max(0.5, 2.0 - i * 1.5 / 11)),
    "rising linear": (linear_schedule(0.5, 2.0, 11), lambda i: min(2.0, 0.5 + i * 1.5 / 11)),
    "cosine": (
        cosine_schedule(2.0, 0.5, 11),
        lambda i: 0.5 + 1.5 * (1 + math.cos(math.pi * i / 11)) / 2 if i < 11 else 0.5,
    ),
    "exponential": (exponential_schedule(0.9), lambda i: 0.9**i),
    "exponential with a floor": (exponential_schedule(0.9, 0.2), lambda i: max(0.2, 0.9**i)),
    "inverse sigmoid": (inverse_sigmoid_schedule(5.0), lambda i: 5 / (5 + math.exp(i / 5))),
    "inverse sigmoid with a floor": (
        inverse_sigmoid_schedule(5.0, 0.2),
        lambda i: max(0.2, 5 / (5 + math.exp(i / 5))),
    ),
    "logistic": (
        logistic_schedule(2.0, 0.5, 7.0, 0.4),
        lambda i: 0.5 + 1.5 / (1 + math.exp(0.4 * (i - 7))),
    ),
    "rising logistic": (
        logistic_schedule(0.5, 2.0, 7.0, 0.4),
        lambda i: 2.0 - 1.5 / (1 + math.exp(0.4 * (i - 7))),
    ),
    "piecewise": (
        piecewise_schedule(
            (3.0, 10.5), (constant_schedule(1.0), linear_schedule(1.0, 0.0, 7), exponential_schedule(0.5))
        ),
        lambda i: 1.0 if i < 3 else max(0.0, 1 - (i - 3) / 7) if i < 10.5 else 0.5 ** (i - 10.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_a_schedule_is_its_formula_at_every_step(name):
    schedule, formula = FORMULAS[name]
    assert [schedule(step) for step in STEPS] == pytest.approx([formula(step) for step in STEPS], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("constant", 0.3),
        ("linear", 0.5),
        ("rising linear", 2.0),
        ("cosine", 0.5),
        ("exponential", 0.0),
        ("exponential with a floor", 0.2),
        ("inverse sigmoid", 0.0),
        ("inverse sigmoid with a floor", 0.2),
        ("logistic", 0.5),
        ("rising logistic", 2.0),
        ("piecewise", 0.0),
    ],
)
def test_a_schedule_arrives_at_its_end_and_never_overflows(name, end):
    assert FORMULAS[name][0](LATE) == pytest.approx(end, abs=1e-12)


def test_a_steep_logistic_overflows_on_neither_side():
    schedule = logistic_schedule(2.0, 0.5, LATE / 2, 100.0)
    assert (schedule(0.0), schedule(LATE / 2), schedule(LATE)) == (2.0, 1.25, 0.5)


@given(st.floats(1, 100), st.floats(0, 1), st.floats(0, LATE), st.floats(0, LATE))
def test_an_inverse_sigmoid_falls_and_keeps_to_its_floor(k, floor, one, other):
    schedule = inverse_sigmoid_schedule(k, floor)
    assert floor <= schedule(max(one, other)) <= schedule(min(one, other)) <= max(floor, k / (k + 1))


@pytest.mark.parametrize("k", [15.0, 25.0])
def test_the_recommended_inverse_sigmoids_fall_to_a_half_within_forty_to_eighty_steps(k):
    schedule = inverse_sigmoid_schedule(k)
    assert schedule(40.0) > 0.5 > schedule(81.0)


def test_pieces_count_from_their_own_boundaries():
    falls = linear_schedule(1.0, 0.0, 10)
    schedule = piecewise_schedule((5.0, 17.0), (falls, falls, falls))
    assert schedule(4.0) == pytest.approx(0.6)
    assert schedule(5.0) == 1.0, "a boundary belongs to the piece that it begins"
    assert schedule(10.0) == pytest.approx(0.5) and schedule(16.0) == 0.0
    assert schedule(17.0) == 1.0 and schedule(27.0) == schedule(LATE) == 0.0


def test_pieces_may_have_pieces():
    inner = piecewise_schedule((2.0,), (constant_schedule(1.0), constant_schedule(2.0)))
    outer = piecewise_schedule((3.0,), (constant_schedule(0.0), inner))
    assert [outer(step) for step in (2.9, 3.0, 4.9, 5.0)] == [0.0, 1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: linear_schedule(1.0, 0.0, 0), "num_steps = 0"),
        (lambda: cosine_schedule(1.0, 0.0, -3), "num_steps = -3"),
        (lambda: exponential_schedule(1.0), r"base = 1\.0"),
        (lambda: exponential_schedule(0.0), r"base = 0\.0"),
        (lambda: exponential_schedule(-0.5), r"base = -0\.5"),
        (lambda: inverse_sigmoid_schedule(0.99), r"k = 0\.99"),
        (lambda: logistic_schedule(1.0, 0.0, 5.0, 0.0), r"steepness = 0\.0"),
        (lambda: logistic_schedule(1.0, 0.0, 5.0, -1.0), r"steepness = -1\.0"),
        (lambda: logistic_schedule(1.0, 0.0, -5.0, 1.0), r"midpoint = -5\.0"),
        (lambda: piecewise_schedule((5.0,), (constant_schedule(1.0),)), "1 pieces for 1 boundaries"),
        (lambda: piecewise_schedule((), ()), "0 pieces for 0 boundaries"),
        (lambda: piecewise_schedule((0.0,), (constant_schedule(1.0),) * 2), r"boundaries = \[0\.0\]"),
        (lambda: piecewise_schedule((5.0, 5.0), (constant_schedule(1.0),) * 3), r"boundaries = \[5\.0, 5\.0\]"),
        (lambda: piecewise_schedule((7.0, 5.0), (constant_schedule(1.0),) * 3), r"boundaries = \[7\.0, 5\.0\]"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_and_value(build, named):
    with pytest.raises(ValueError, match=named):
        build()


ENTRIES = {
    "0.25": constant_schedule(0.25),
    "1": constant_schedule(1.0),
    '{kind="cosine",start=1.0,end=0.25}': cosine_schedule(1.0, 0.25, 50),
    '{kind="cosine",start=1,end=0.25,num_steps=11}': cosine_schedule(1.0, 0.25, 11),
    '{kind="linear",start=1.0,end=0.25,num_steps="attempt"}': linear_schedule(1.0, 0.25, 50),
    '{kind="linear",start=1.0,end=0.25,num_steps=11}': linear_schedule(1.0, 0.25, 11),
    '{kind="exponential",base=0.9}': exponential_schedule(0.9, 0.2),
    '{kind="exponential",base=0.9,floor=0.4}': exponential_schedule(0.9, 0.4),
    '{kind="inverse_sigmoid"}': inverse_sigmoid_schedule(20.0, 0.2),
    '{kind="inverse_sigmoid",k=5,floor=0.1}': inverse_sigmoid_schedule(5.0, 0.1),
    '{kind="logistic",start=1.0,end=0.5,midpoint=7,steepness=0.4}': logistic_schedule(1.0, 0.5, 7.0, 0.4),
    '{kind="piecewise",boundaries=[3,11],pieces=[1,{kind="linear",start=1,end=0.5},{kind="exponential",base=0.5}]}': (
        piecewise_schedule(
            (3.0, 11.0), (constant_schedule(1.0), linear_schedule(1.0, 0.5, 50), exponential_schedule(0.5, 0.2))
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_recipes_entry_builds_the_closure_it_names(entry):
    recipe = load_recipe(None, [f"context.eps={entry}"])
    ours = build_schedule(recipe.context.eps, 50)
    assert [ours(step) for step in (*STEPS, LATE)] == [ENTRIES[entry](step) for step in (*STEPS, LATE)]
    assert load_recipe(None, [f"context.eps={entry}"]).hash == recipe.hash


def test_every_kind_of_entry_is_built_by_a_test():
    union = ContextRecipe.model_fields["eps"].annotation
    schema = ContextRecipe.model_json_schema()
    kinds = {name["properties"]["kind"]["const"] for name in schema["$defs"].values()}
    assert union is not float and kinds
    assert all(any(f'kind="{kind}"' in entry for entry in ENTRIES) for kind in kinds)


def test_the_example_of_an_inverse_sigmoid_loads():
    recipe = load_recipe(None, ['context.eps={kind="inverse_sigmoid",k=20}'])
    assert build_schedule(recipe.context.eps, 500)(0.0) == pytest.approx(20 / 21)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ('{kind="inverse_sigmoid",k=0.5}', "k = 0.5"),
        ('{kind="exponential",base=1.5}', "base = 1.5"),
        ('{kind="linear",start=1.0,end=0.0,num_steps=0}', "num_steps = 0"),
        ('{kind="logistic",start=1.0,end=0.0,midpoint=5,steepness=0}', "steepness = 0"),
        ('{kind="piecewise",boundaries=[5,3],pieces=[1.0,1.0,1.0]}', "boundaries = [5.0, 3.0]"),
        ('{kind="piecewise",boundaries=[5],pieces=[1.0]}', "1 pieces for 1 boundaries"),
        ('{kind="piecewise",boundaries=[5],pieces=[1.0,{kind="inverse_sigmoid",k=0}]}', "k = 0"),
        ('{kind="cosine",start=1.0}', "end"),
        ('{kind="cosine",start=1.0,end=0.0,steps=5}', "steps"),
        ('{kind="sawtooth",start=1.0}', "sawtooth"),
        ("{start=1.0,end=0.0}", "kind"),
        ("much", "much"),
    ],
)
def test_a_bad_entry_is_refused_by_the_key_it_stands_at(entry, named):
    with pytest.raises(RecipeError) as error:
        load_recipe(None, [f"context.eps={entry}"])
    assert "context.eps" in str(error.value) and named in str(error.value)
    assert "\n" not in str(error.value)
