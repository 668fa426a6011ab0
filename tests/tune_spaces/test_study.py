"""Studies that outlive their search: names, orphans, draws, torn journals."""

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from orchestrator.console.errors import UserError
from tests.tune_spaces.made_up import NUM_TEXTS, report, search_on, study_in
from tune_spaces.study import FILE, adopt_orphans, ended_trials, winner


def draws(folder, number, **changes):
    study = study_in(folder, **changes)
    before, search = len(study.trials), search_on(study)
    for number_of_trial in range(number):
        search.suggest(f"trial {number_of_trial}")
    return [trial.params for trial in study.trials[before:]]


def test_a_resumed_search_draws_new_trials_and_the_ones_it_would_have_drawn(tmp_path):
    (tmp_path / "once").mkdir()
    (tmp_path / "twice").mkdir()
    whole = draws(tmp_path / "once", 6)
    assert draws(tmp_path / "twice", 4) + draws(tmp_path / "twice", 2) == whole
    assert len({str(params) for params in whole}) == 6
    (tmp_path / "other").mkdir()
    assert draws(tmp_path / "other", 6, seed=1) != whole


def test_a_search_that_was_killed_comes_to_the_draws_of_one_that_was_not(tmp_path):
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
    calm = draws(tmp_path / "calm", 6)
    killed = tmp_path / "killed"
    draws(killed, 2)
    study_in(killed).ask()  # died before it had drawn anything
    adopt_orphans(study_in(killed))
    draws(killed, 6)
    study = study_in(killed)
    assert [trial.params for trial in study.trials if trial.params][:2] == calm[:2]
    assert [trial.params for trial in study.trials[3:]] == calm


def test_orphans_fail_and_their_parameters_are_tried_once_more(tmp_path):
    search = search_on(study_in(tmp_path))
    for name in ("a", "b", "c"):
        search.suggest(name)
    search.on_trial_complete("b", report(*[3.0] * NUM_TEXTS))

    study = study_in(tmp_path)
    assert adopt_orphans(study) == 2
    assert [trial.state for trial in study.trials[:3]] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL]
    assert [trial.number for trial in ended_trials(study)] == [1]
    assert adopt_orphans(study_in(tmp_path)) == 0, "nothing runs any more"

    again = search_on(study_in(tmp_path))
    for name in ("d", "e"):
        again.suggest(name)
        again.on_trial_complete(name, report(*[2.0] * NUM_TEXTS))
    study = study_in(tmp_path)
    assert [trial.params for trial in study.trials[3:]] == [study.trials[0].params, study.trials[2].params]
    assert [trial.number for trial in ended_trials(study)] == [1, 3, 4]
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    assert winner(study).number == 3


def test_a_search_that_dies_between_queueing_and_failing_an_orphan_queues_it_once(tmp_path):
    search_on(study_in(tmp_path)).suggest("a")
    study = study_in(tmp_path)
    study.enqueue_trial(study.trials[0].params, user_attrs={"retry_of": 0})
    assert adopt_orphans(study_in(tmp_path)) == 1
    assert [trial.state for trial in study_in(tmp_path).trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_queued_trial_whose_search_dies_before_it_is_drawn_keeps_its_parameters(tmp_path):
    centre = {"optim.lr": 0.7, "optim.beta1": 0.7, "loss.name": "cross_entropy"}
    study = study_in(tmp_path)
    study.enqueue_trial(centre)
    study.ask()
    adopt_orphans(study_in(tmp_path))
    study = study_in(tmp_path)
    search_on(study).suggest("again")
    assert study.trials[-1].params == centre


def test_a_journal_damaged_inside_is_named(tmp_path):
    search_on(study_in(tmp_path)).suggest("a")
    path = tmp_path / FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"{oops\n", *lines[1:]]))
    with pytest.raises(UserError, match="study.journal: damaged .*choose another --out"):
        study_in(tmp_path)


def test_a_folder_holds_one_study_of_one_name_and_direction(tmp_path):
    study_in(tmp_path, "verbatim-quick-0")
    with pytest.raises(UserError, match="verbatim-quick-0, not verbatim-quick-1; choose another --out"):
        study_in(tmp_path, "verbatim-quick-1")
    with pytest.raises(UserError, match="directions"):
        study_in(tmp_path, "verbatim-quick-0", objective="pareto")


@pytest.mark.parametrize("cut", [1, 9, 40])
def test_a_journal_torn_by_a_kill_opens_with_what_was_whole(tmp_path, cut):
    search_on(study_in(tmp_path)).suggest("a")
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    (tmp_path / f"{FILE}.lock").touch()  # its writer died
    study = study_in(tmp_path)
    adopt_orphans(study)
    assert search_on(study_in(tmp_path)).suggest("b")
    assert JournalStorage(JournalFileBackend(str(path))).get_all_studies()
