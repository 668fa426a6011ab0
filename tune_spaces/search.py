"""Ray's OptunaSearch, made safe: every trial ends in the study, and as what it was.

Owns: what a trial's end means to Optuna. Must not know: Ray's scheduling, where the study lies.

OptunaSearch (Ray 2.60) leaves a trial with a NaN running for ever, calls a stopped trial complete, and opens its study
itself, merging whatever has the same name; all three are replaced here.
"""

import math
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from engine.recipe import Recipe
from engine.settings import SettingsError
from tune_spaces.objective import Objective
from tune_spaces.spaces import Space

KEPT = ("exact_frac", "margin", "positions", "texts", "cost")
"""Figures of the last report that go into the study beside the objective."""


class SafeOptunaSearch(OptunaSearch):
    """Asks a study for recipes and tells it what they came to.

    Args:
        study: opened and checked.
        space: draws a recipe from a trial.
        base: what the space leaves open.
        num_texts: a trial that saw fewer was stopped.
        is_broken: whether trials fail because nobody is there to solve their texts; asked when one fails.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        base: Recipe,
        objective: Objective,
        num_texts: int,
        is_broken: Callable[[], bool] = lambda: False,
    ):
        self._study, self._num_texts, self._metrics = study, num_texts, objective.metrics
        self._is_broken, self._has_ended = is_broken, False
        single = objective.is_single
        super().__init__(
            space=lambda trial: {"recipe": space.draw(trial, base).model_dump_json()},
            metric=objective.metrics[0] if single else list(objective.metrics),
            mode=objective.modes[0] if single else objective.modes,
        )

    def _setup_study(self, mode: str | list) -> None:
        self._ot_study = self._study

    def suggest(self, trial_id: str) -> Any:
        """A recipe to try; none any more once nobody is there to try it."""
        if self._has_ended:
            return Searcher.FINISHED
        try:
            config = super().suggest(trial_id)
        except SettingsError:
            self._ot_study.tell(self._ot_trials[trial_id], state=TrialState.FAIL)
            raise
        if config is not None:
            self._ot_trials[trial_id].set_user_attr("recipe", config["recipe"])
        return config

    def is_hopeless(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the study's pruner would stop the trial at this result."""
        self.on_trial_result(trial_id, result)
        return self._ot_trials[trial_id].should_prune()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the cost of each text under the text's number; what was told before is left as it is."""
        if len(self._metrics) > 1:
            return
        trial = self._ot_trials[trial_id]
        told = self._ot_study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for number, cost in enumerate(result["costs"]):
            if number not in told:
                trial.report(cost, step=number)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Complete with its values, pruned if it saw too few texts, failed without a finite result.

        A trial that failed because nobody was there to solve its texts is left running: the next call tries it again.
        """
        if trial_id in self._completed_trials:
            return
        if error and self._is_broken():
            self._has_ended = True
            return
        trial, result = self._ot_trials[trial_id], result or {}
        found = [result.get(metric) for metric in self._metrics]
        values = [math.nan if value is None else float(value) for value in found]
        for name in KEPT:
            if name in result:
                trial.set_user_attr(name, result[name])
        if error or not all(map(math.isfinite, values)):
            self._ot_study.tell(trial, state=TrialState.FAIL)
        elif result["texts"] < self._num_texts:
            self._ot_study.tell(trial, state=TrialState.PRUNED)
        else:
            self._ot_study.tell(trial, values)
        self._completed_trials.add(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's storage is the state, and a resumed search reads that."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, see `save`; Ray pickles what it is given."""
        return {}
