"""What the study hears of a trial's end."""

import math
import pickle

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from engine.recipe import Recipe
from tests.tune_spaces.made_up import NUM_TEXTS, report, search_on, study_in
from tune_spaces.objective import OBJECTIVES
from tune_spaces.search import SafeOptunaSearch
from tune_spaces.spaces import space
from tune_spaces.study import adopt_orphans

ALL = [3.0] * NUM_TEXTS


@pytest.mark.parametrize(
    ("result", "error", "state"),
    [
        (report(*ALL), False, TrialState.COMPLETE),
        (report(*ALL[1:]), False, TrialState.PRUNED),
        (report(*ALL, cost=math.nan), False, TrialState.FAIL),
        (report(*ALL, cost=math.inf), False, TrialState.FAIL),
        (report(*ALL, cost=None), False, TrialState.FAIL),
        (None, False, TrialState.FAIL),
        ({}, False, TrialState.FAIL),
        (report(*ALL[1:]), True, TrialState.FAIL),
        (None, True, TrialState.FAIL),
    ],
)
@pytest.mark.parametrize("objective", ["cost", "pareto"])
def test_a_trial_ends_in_the_study_as_what_it_was(tmp_path, objective, result, error, state):
    study = study_in(tmp_path, objective=objective)
    search = search_on(study, objective)
    search.suggest("a")
    search.on_trial_complete("a", result, error)
    search.on_trial_complete("a", report(*ALL))  # told twice
    (trial,) = study.trials
    assert trial.state is state
    if state is TrialState.COMPLETE:
        assert trial.values == ([3.0] if objective == "cost" else [3.0, 0.5])


def test_a_trial_carries_its_whole_recipe_as_ray_gets_it(tmp_path):
    study = study_in(tmp_path)
    config = search_on(study).suggest("a")
    (trial,) = study.trials
    assert trial.user_attrs["recipe"] == config["recipe"]
    assert Recipe.model_validate_json(config["recipe"]).optim.lr == trial.params["optim.lr"]


def test_costs_are_told_by_text_and_a_trial_that_loses_on_every_text_is_hopeless(tmp_path):
    study = study_in(tmp_path)
    search = search_on(study)
    search.suggest("best")
    search.on_trial_result("best", report(1.0, 2.0))
    search.on_trial_result("best", report(1.0, 2.0, 3.0, 4.0))
    search.on_trial_complete("best", report(1.0, 2.0, 3.0, 4.0))
    assert study.trials[0].intermediate_values == {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    for name, costs, is_hopeless in (
        ("worse", (11.0, 12.0, 13.0, 14.0), True),
        ("better", (0.5, 1.0, 1.5, 2.0), False),
        ("one text says nothing", (50.0,), False),
    ):
        search.suggest(name)
        assert search.is_hopeless(name, report(*costs)) is is_hopeless, name


def test_ray_may_pickle_the_search_and_gets_nothing_of_the_study(tmp_path):
    assert vars(pickle.loads(pickle.dumps(search_on(study_in(tmp_path))))) == {}


def test_when_nobody_solves_any_more_trials_are_left_for_the_next_call(tmp_path):
    study = study_in(tmp_path)
    search = SafeOptunaSearch(study, space("quick"), Recipe(), OBJECTIVES["cost"], NUM_TEXTS, is_broken=lambda: True)
    search.suggest("a")
    search.on_trial_complete("a", None, error=True)
    assert search.suggest("b") is Searcher.FINISHED
    (trial,) = study.trials
    assert trial.state is TrialState.RUNNING
    assert adopt_orphans(study_in(tmp_path)) == 1
