"""Which trials are given up, by Ray's own schedulers and by ours, on a search played by hand."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from tune_spaces.stopping import make_scheduler

RUNGS = [2, 4, 8, 16]


class Trial:
    """What a scheduler looks at."""

    def __init__(self, id):
        self.trial_id, self.status, self.last_result = id, "RUNNING", {}


class Played:
    """Trials that report to a scheduler rung by rung."""

    def __init__(self, name, is_hopeless=lambda id, result: False):
        self.scheduler = make_scheduler(name, rungs=RUNGS, is_hopeless=is_hopeless)
        self.trials = {}

    def report(self, id, texts, cost):
        if id not in self.trials:
            self.trials[id] = Trial(id)
            self.scheduler.on_trial_add(None, self.trials[id])
        trial, result = self.trials[id], {"texts": texts, "cost": cost, "time_total_s": 1.0, "training_iteration": 1}
        controller = SimpleNamespace(get_live_trials=lambda: list(self.trials.values()))
        decision = self.scheduler.on_trial_result(controller, trial, result)
        trial.last_result = result
        return decision


@pytest.mark.parametrize("rung", [0, 1, 2])
def test_asha_stops_the_worse_half_at_every_rung_but_the_last(rung):
    played = Played("asha")
    decisions = []
    for number in range(4):
        decisions += [played.report(f"{number}", texts, 10.0 + number) for texts in RUNGS[: rung + 1]][-1:]
    assert decisions[0] == TrialScheduler.CONTINUE and decisions[-1] == TrialScheduler.STOP


def test_the_median_rule_stops_what_is_worse_than_most_and_never_pauses():
    played = Played("median")
    for texts in RUNGS[:2]:
        for number in range(4):
            assert played.report(f"good {number}", texts, 10.0 + number) == TrialScheduler.CONTINUE
    assert played.report("bad", 2, 50.0) == TrialScheduler.STOP
    assert played.report("better", 4, 1.0) == TrialScheduler.CONTINUE


def test_our_own_stops_what_is_hopeless_before_the_last_text():
    played = Played("wilcoxon", is_hopeless=lambda id, result: id == "bad")
    assert played.report("good", 2, 1.0) == TrialScheduler.CONTINUE
    assert played.report("bad", 2, 9.0) == TrialScheduler.STOP
    assert played.report("bad", 16, 9.0) == TrialScheduler.CONTINUE, "its figures are all there"


def test_none_stops_nothing():
    played = Played("none")
    assert {played.report(str(i), texts, 10.0**i) for i in range(5) for texts in RUNGS} == {TrialScheduler.CONTINUE}
