"""The sentence that a search is told by."""

from engine.recipe import Recipe, load_recipe
from tests.tune_spaces.made_up import NUM_TEXTS, outcome, report, search_on, study_in
from tune_spaces.headline import headline
from tune_spaces.hold_out import compare

BASE = Recipe()
LOST = compare([outcome("a", 3.0)], [outcome("a", 2.0)])
UNSURE = compare([outcome("a", 1.0), outcome("b", 3.0)], [outcome("a", 3.0), outcome("b", 2.0)])
WON = compare([outcome("a", 1.0)], [outcome("a", 2.0)])


def study_of(folder, *costs):
    study = study_in(folder)
    study.enqueue_trial({"optim.lr": BASE.optim.lr, "optim.beta1": BASE.optim.beta1, "loss.name": BASE.loss.name})
    search = search_on(study)
    for number, cost in enumerate(costs):
        search.suggest(str(number))
        search.on_trial_complete(str(number), report(*[cost] * NUM_TEXTS))
    return study


def test_nothing_beat_the_base_is_said_first_wherever_nothing_did(tmp_path):
    for name, costs, comparison in (
        ("none", (), None), ("itself", (1.0, 2.0), None), ("lost", (2.0, 1.0), LOST), ("unsure", (2.0, 1.0), UNSURE)
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        assert headline(study_of(tmp_path / name, *costs), BASE, comparison).startswith("nothing beat the base: ")


def test_a_win_is_told_with_its_interval_and_luck_on_the_same_texts_as_luck(tmp_path):
    study = study_of(tmp_path, 2.0, 1.0)
    told = headline(study, BASE, WON)
    assert told.startswith("trial 1 beat the base on texts that the search never saw: 0.50 times the base's cost")
    assert "how it does on others is not known" in headline(study, BASE, None)
    assert headline(study, BASE, None, "Interrupted").endswith(". Interrupted")
    other = load_recipe(None, ["optim.lr=0.5"])
    assert not headline(study_of(tmp_path, 1.0), other, None).startswith("nothing")
