"""What was found to suit a model, kept and told."""

import pytest

from engine.adaptation import Adaptation
from engine.capacity import VectorPlan
from engine.recipe import load_recipe
from orchestrator.measured.adaptation_cache import cache_key, load_adaptation, save_adaptation
from orchestrator.measured.calibrating import adapted_in_words, settled_adaptation

AUTO = load_recipe(None, ["proof=auto"])
PAIR = load_recipe(None, ["proof=auto", 'portfolio=[{}, {name="Adam"}]'])
PLAN = VectorPlan(((8, 4), (32, 16)))


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_what_was_found_comes_back_and_the_undecided_only_where_there_is_no_more_time():
    found, late = Adaptation(member=1, price=1.125), Adaptation(is_settled=False, seconds=2.0)
    save_adaptation("found", found)
    save_adaptation("late", late)
    assert load_adaptation("found", 60.0) == found and load_adaptation("late", 2.0) == late
    assert load_adaptation("late", 60.0) is None and load_adaptation("missing", 60.0) is None


@pytest.mark.parametrize("content", ["", "{", "3", '{"unheard": 1}'])
def test_a_damaged_file_counts_as_none(content, tmp_path):
    save_adaptation("found", Adaptation())
    (path,) = (tmp_path / "verbatim").iterdir()
    path.write_text(content)
    assert load_adaptation("found", 60.0) is None


def test_the_key_follows_the_model_the_vectors_and_what_a_text_costs():
    keys = [cache_key("model", AUTO, PLAN), cache_key("other", AUTO, PLAN), cache_key("model", AUTO, None)]
    keys += [
        cache_key("model", PAIR, PLAN),
        cache_key("model", load_recipe(None, ["proof=auto", "optim.lr=0.5"]), PLAN),
    ]
    assert len(set(keys)) == 5
    assert cache_key("model", load_recipe(None, ["proof=auto", "seed=1", "attempts=1"]), PLAN) == keys[0]


@pytest.mark.parametrize(
    ("found", "recipe", "told"),
    [
        (Adaptation(price=1.154), AUTO, "on this model proof: beam, for 1.15 times the positions"),
        (Adaptation(is_dear=True), AUTO, "on this model proof: greedy, beam takes more than 1.25 times the positions"),
        (Adaptation(), AUTO, "on this model proof: greedy, neither was found on the samples"),
        (Adaptation(is_settled=False, seconds=8.0), AUTO, "on this model proof: greedy (not settled in 8 s)"),
        (
            Adaptation(member=1, price=1.0),
            PAIR,
            "on this model member 1 of the portfolio (Adam) goes first; proof: beam, for 1.00 times the positions",
        ),
    ],
    ids=["cheap", "dear", "unknown", "late", "both"],
)
def test_it_is_told_in_one_line(found, recipe, told):
    assert adapted_in_words(found, recipe) == told


def test_it_is_asked_again_until_it_is_there():
    answers, said, shown = iter([30.0, 12.5, Adaptation()]), [], []
    assert settled_adaptation(lambda: next(answers), AUTO, 60.0, said.append, shown.append) == Adaptation()
    assert said[0] == "measuring which proof this model affords: at most 60 s, kept for the next run" and len(said) == 2
    assert shown == ["at most 30 s left", "at most 12 s left"]
