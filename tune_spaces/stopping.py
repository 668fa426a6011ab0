"""When a trial is given up before its last text.

Owns: the choice of scheduler. Must not know: the pool, spaces.
"""

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

MIN_TRIALS = 4
"""Trials that the median needs before it stops any. Assumption."""


class PairedStopping(FIFOScheduler):
    """Stops a trial that loses against the best one on the texts both have seen.

    Args:
        is_hopeless: `(trial id, result) -> bool`; asked after every rung but the last.
        num_texts: of the whole sample.
    """

    def __init__(self, is_hopeless: Callable[[str, dict[str, Any]], bool], num_texts: int):
        super().__init__()
        self._is_hopeless, self._num_texts = is_hopeless, num_texts

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result["texts"] < self._num_texts and self._is_hopeless(trial.trial_id, result):
            return TrialScheduler.STOP
        return TrialScheduler.CONTINUE


def make_scheduler(
    name: str, *, num_rungs: int, num_texts: int, is_hopeless: Callable[[str, dict[str, Any]], bool]
) -> TrialScheduler:
    """The scheduler called `name`: wilcoxon pairs texts, asha and median compare means over the same rung."""
    if name == "wilcoxon":
        return PairedStopping(is_hopeless, num_texts)
    if name == "asha":
        return ASHAScheduler(metric="cost", mode="min", max_t=num_rungs + 1, grace_period=1, reduction_factor=2)
    if name == "median":
        return MedianStoppingRule(
            metric="cost", mode="min", time_attr="training_iteration", grace_period=1, min_samples_required=MIN_TRIALS
        )
    return FIFOScheduler()
