"""What the study hears of a trial's end."""

import math
import pickle

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from engine.recipe import Recipe
from tests.tune_spaces.made_up import NUM_TEXTS, report, search_on, study_in
from tune_spaces.search import StudySearch
from tune_spaces.study import MAX_DEATHS, adopt_orphans, ended_trials, winner

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


def test_of_ray_only_what_is_made_to_be_derived_from_is_used(tmp_path):
    of_ray = {name for kind in StudySearch.__mro__[1:] for name in vars(kind)}
    private = {name for name in vars(search_on(study_in(tmp_path))) if name.startswith("_")} - {"_metric", "_mode"}
    assert StudySearch.__bases__ == (Searcher,) and not private & of_ray


def test_a_trial_carries_its_whole_recipe_as_ray_gets_it(tmp_path):
    study = study_in(tmp_path)
    config = search_on(study).suggest("a")
    (trial,) = study.trials
    assert trial.user_attrs["recipe"] == config["recipe"]
    assert Recipe.model_validate_json(config["recipe"]).optim.lr == trial.params["optim.lr"]


def test_a_trial_is_hopeless_if_it_loses_to_the_best_complete_one(tmp_path):
    search = search_on(study_in(tmp_path))
    for name in ("worse", "best", "other"):
        search.suggest(name)
    assert not search.is_hopeless("other", report(99.0, 99.0, 99.0, 99.0)), "none is complete"
    search.on_trial_complete("worse", report(6.0, 7.0, 8.0, 9.0))
    search.on_trial_complete("best", report(1.0, 2.0, 3.0, 4.0))
    assert search.is_hopeless("other", report(2.0, 3.0, 4.0, 5.0))
    assert not search.is_hopeless("other", report(2.0, 3.0, 4.0, 3.0))


def test_by_capacity_the_longest_prefix_wins_and_tokens_that_are_missing_are_paired(tmp_path):
    study = study_in(tmp_path, objective="capacity")
    search = search_on(study, "capacity")

    def missing(*tokens, **changes):
        pairs = [(f"text {i}", number) for i, number in enumerate(tokens)]
        return report(*ALL, missing=pairs, prefix_tokens=20 - sum(tokens) / len(tokens), **changes)

    for name in ("worse", "best", "other"):
        search.suggest(name)
    search.on_trial_complete("worse", missing(9, 9, 9, 9))
    search.on_trial_complete("best", missing(4, 5, 6, 7))
    best = winner(study)
    assert best is not None and best.number == 1 and best.value == 14.5
    assert search.is_hopeless("other", missing(6, 7, 8, 9, texts=3))
    assert not search.is_hopeless("other", missing(6, 7, 8, 0, texts=3)), "one is under way and may come to all"


def test_what_a_stopped_trial_came_to_is_what_the_sampler_ranks_it_by(tmp_path):
    study = study_in(tmp_path)
    search = search_on(study)
    search.suggest("a")
    search.on_trial_complete("a", report(5.0, 6.0, 7.0, texts=1))
    (trial,) = study.trials
    assert trial.intermediate_values == {3: 6.0} and trial.value == 6.0


def test_a_stopped_trial_is_let_go_and_no_other(tmp_path):
    let_go = []
    search = search_on(study_in(tmp_path), let_go=let_go.append)
    recipes = {name: search.suggest(name)["recipe"] for name in ("stopped", "complete", "lost")}
    search.on_trial_complete("complete", report(*ALL))
    search.on_trial_complete("lost", None, error=True)
    search.on_trial_complete("stopped", report(*ALL, texts=2))
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
