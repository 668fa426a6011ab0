"""Which trials are given up, by Ray's own schedulers and by ours, on a search played by hand."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from tune_spaces.stopping import loses, make_scheduler

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


def costs(*values):
    return {f"text {i}": float(value) for i, value in enumerate(values)}


@pytest.mark.parametrize(
    ("mine", "best", "is_lost"),
    [
        ((12, 13, 14, 15), (10, 11, 12, 13), True),
        ((12, 13, 14, 12), (10, 11, 12, 13), False),
        ((99, 99, 99), (10, 11, 12), False),
        ((10, 11, 12, 13), (10, 11, 12, 13), False),
        ((11, 12, 13, 14), (11, 11, 12, 13), False),
        # worse on cheap texts, under way and far from lost on dear ones: 40 % cheaper in the end
        ((15, 16, 17, 18, 18, 18), (10, 11, 12, 13, 40, 80), False),
        # dearer on eight texts and much cheaper on the ninth, so cheaper in sum
        ((11, 12, 13, 14, 15, 16, 17, 18, 40), (10, 10, 10, 10, 10, 10, 10, 10, 80), False),
        ((15, 16, 17, 18, 50, 90), (10, 11, 12, 13, 40, 80), True),
    ],
)
def test_a_recipe_loses_by_the_texts_that_both_were_given(mine, best, is_lost):
    assert loses(costs(*mine), costs(*best)) is is_lost
    assert loses(costs(*mine) | {"another": 1e6}, costs(*best) | {"not given": 1.0}) is is_lost


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60)), min_size=4, max_size=9))
@settings(max_examples=60, deadline=None)
def test_what_is_stopped_under_way_would_have_been_at_the_end(rows):
    best = costs(*(first for first, _, _ in rows))
    at_the_end = costs(*(second for _, second, _ in rows))
    under_way = costs(*(min(second, third) for _, second, third in rows))
    assert not loses(under_way, best) or loses(at_the_end, best)
