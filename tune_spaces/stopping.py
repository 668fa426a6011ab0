"""When a trial is given up before its last text.

Owns: the choice of scheduler. Must not know: the pool, spaces.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any, cast

import optuna
from optuna.pruners import WilcoxonPruner
from optuna.trial import TrialState, create_trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from tune_spaces.objective import OBJECTIVES, Objective
from tune_spaces.study import quiet

MIN_TRIALS = 4
"""Trials that the median needs before it stops any. Assumption."""


P_THRESHOLD = 0.1
"""Level of the Wilcoxon test at which a trial is stopped; Optuna's default."""

MIN_LOSS = 0.1
"""Share by which a trial that is stopped costs more than the best at least: a pass more on each of a few cheap texts is
significant, and says little of dear ones. Assumption."""


def loses(mine: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """Whether one recipe costs more than another on the texts that both were given.

    Optuna's WilcoxonPruner, in a study of the other one alone, on these texts alone: its rule that a better mean is
    never stopped compares like with like then. A text under way enters with what it cost so far. That can only be too
    little, so nothing is stopped that would not have been at the end of the same texts, however often one looks.

    Args:
        mine: costs by text; of texts under way the least that they will come to.
        best: costs by text of the recipe to beat, all ended.
    """
    ids = [id for id in mine if id in best]
    ours, theirs = [mine[id] for id in ids], [best[id] for id in ids]
    if sum(ours) <= (1 + MIN_LOSS) * sum(theirs):
        return False
    duel = optuna.create_study()
    duel.add_trial(create_trial(value=statistics.fmean(theirs), intermediate_values=dict(enumerate(theirs))))
    with quiet():
        pruner = WilcoxonPruner(p_threshold=P_THRESHOLD)
    return pruner.prune(duel, create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(ours))))


class PairedStopping(FIFOScheduler):
    """Stops a trial that loses against the best one on the texts both have seen.

    Args:
        is_hopeless: `(trial id, result) -> bool`; asked at every report until all texts have ended.
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
    name: str,
    *,
    rungs: list[int],
    is_hopeless: Callable[[str, dict[str, Any]], bool],
    objective: Objective = OBJECTIVES["cost"],
) -> TrialScheduler:
    """The scheduler called `name`: wilcoxon pairs texts, asha and median compare means over the same rung.

    Args:
        rungs: texts seen at the end of each rung.
    """
    first, last = rungs[0], rungs[-1]
    by: Any = {"time_attr": "texts", "metric": objective.metrics[0], "mode": objective.modes[0]}
    if name == "wilcoxon":
        return PairedStopping(is_hopeless, last)
    if name == "asha":
        return ASHAScheduler(**by, max_t=last + 1, grace_period=first, reduction_factor=2)
    if name == "median":
        return MedianStoppingRule(
            **by, grace_period=first, min_samples_required=MIN_TRIALS,
            min_time_slice=cast(Any, math.inf),  # or it pauses trials, which would begin again
        )  # fmt: skip
    return FIFOScheduler()
