"""When a trial is given up before its last text.

Owns: the choice of scheduler. Must not know: the pool, spaces.
"""

import math
from collections.abc import Callable
from typing import Any, cast

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
    name: str, *, rungs: list[int], is_hopeless: Callable[[str, dict[str, Any]], bool]
) -> TrialScheduler:
    """The scheduler called `name`: wilcoxon pairs texts, asha and median compare means over the same rung.

    Args:
        rungs: texts seen at the end of each rung.
    """
    first, last = rungs[0], rungs[-1]
    if name == "wilcoxon":
        return PairedStopping(is_hopeless, last)
    if name == "asha":
        return ASHAScheduler(
            time_attr="texts", metric="cost", mode="min", max_t=last + 1, grace_period=first, reduction_factor=2
        )
    if name == "median":
        return MedianStoppingRule(
            time_attr="texts", metric="cost", mode="min", grace_period=first, min_samples_required=MIN_TRIALS,
            min_time_slice=cast(Any, math.inf),  # or it pauses trials, which would begin again
        )  # fmt: skip
    return FIFOScheduler()
