"""What the study hears of a trial's end."""

import math
import pickle

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from engine.recipe import Recipe
from tests.tune_spaces.made_up import NUM_TEXTS, YARDSTICK, report, search_on, study_in
from tune_spaces.study import MAX_DEATHS, adopt_orphans, ended_trials

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
        (report(*ALL[1:]), True, TrialState.RUNNING),
        (None, True, TrialState.RUNNING),
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
    search.on_trial_result("best", report(1.0, 2.0, 3.5, 9.0, under_way=[3]))
    search.on_trial_result("best", report(1.0, 2.0, 3.5, 9.5))
    search.on_trial_complete("best", report(1.0, 2.0, 3.5, 9.5))
    assert study.trials[0].intermediate_values == {0: 0.0, 1: 0.0, 2: 0.5, 3: 5.5}, "more than the base recipe"
    for name, costs, is_hopeless in (
        ("worse", (11.0, 12.0, 13.0, 14.0), True),
        ("better", (0.5, 1.0, 1.5, 5.0), False),
        ("one text says nothing", (50.0,), False),
    ):
        search.suggest(name)
        assert search.is_hopeless(name, report(*costs)) is is_hopeless, name


def test_a_text_under_way_counts_once_it_costs_more_than_it_cost_the_best(tmp_path):
    study = study_in(tmp_path)
    search = search_on(study)
    search.suggest("best")
    search.on_trial_result("best", report(*YARDSTICK))
    search.on_trial_complete("best", report(*YARDSTICK))
    search.suggest("other")
    under_way = [0, 1, 2, 3]
    assert not search.is_hopeless("other", report(1.5, 1.9, 2.9, 3.9, under_way=under_way)), "only one has lost"
    assert search.is_hopeless("other", report(1.5, 2.5, 3.5, 4.5, under_way=under_way))
    assert not search.is_hopeless("other", report(0.1, 0.2, 3.5, 4.5, under_way=[2, 3])), "two have won"
    assert study.trials[1].intermediate_values == {0: -0.9, 1: -1.8}, "only what has ended is told"


def test_a_stopped_trial_is_let_go_and_no_other(tmp_path):
    let_go = []
    search = search_on(study_in(tmp_path), let_go=let_go.append)
    recipes = {name: search.suggest(name)["recipe"] for name in ("stopped", "complete", "lost")}
    search.on_trial_complete("complete", report(*ALL))
    search.on_trial_complete("lost", None, error=True)
    search.on_trial_complete("stopped", report(*ALL, texts=2, under_way=[2, 3]))
    assert let_go == [recipes["stopped"]]


def test_a_trial_whose_processes_die_is_tried_again_and_fails_in_the_end(tmp_path):
    study = study_in(tmp_path)
    for life in range(MAX_DEATHS):
        search = search_on(study)
        search.suggest("a")
        search.on_trial_complete("a", None, error=True)
        is_last = life == MAX_DEATHS - 1
        assert study.trials[-1].state is (TrialState.FAIL if is_last else TrialState.RUNNING)
        assert adopt_orphans(study) == (not is_last)
    assert len({str(trial.params) for trial in study.trials}) == 1 and len(study.trials) == MAX_DEATHS
    assert [trial.number for trial in ended_trials(study)] == [MAX_DEATHS - 1]


def test_ray_may_pickle_the_search_and_gets_nothing_of_the_study(tmp_path):
    assert vars(pickle.loads(pickle.dumps(search_on(study_in(tmp_path))))) == {}


def test_when_nobody_solves_any_more_trials_are_left_for_the_next_call(tmp_path):
    study = study_in(tmp_path)
    search = search_on(study, is_broken=lambda: True)
    search.suggest("a")
    search.on_trial_complete("a", None, error=True)
    assert search.suggest("b") is Searcher.FINISHED
    (trial,) = study.trials
    assert trial.state is TrialState.RUNNING
    assert adopt_orphans(study_in(tmp_path)) == 1
