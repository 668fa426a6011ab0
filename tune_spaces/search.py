"""Ray's OptunaSearch, made safe: every trial ends in the study, and as what it was.

Owns: what a trial's end means to Optuna. Must not know: Ray's scheduling, where the study lies.

OptunaSearch (Ray 2.60) leaves a trial with a NaN running for ever, calls a stopped trial complete, and opens its study
itself, merging whatever has the same name; all three are replaced here.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from engine.recipe import Recipe
from engine.settings import SettingsError
from tune_spaces.objective import Objective
from tune_spaces.spaces import Space
from tune_spaces.study import mourn

KEPT = ("exact_frac", "margin", "positions", "texts", "cost", "costs")
"""Figures of the last report that go into the study beside the objective."""


class SafeOptunaSearch(OptunaSearch):
    """Asks a study for recipes and tells it what they came to.

    Args:
        study: opened and checked.
        space: draws a recipe from a trial.
        base: what the space leaves open.
        yardstick: cost of each text under the base recipe, by its place; what the study is told of a text is how much
            more it costs. A trial that saw fewer was stopped.
        is_broken: whether trials fail because nobody is there to solve their texts; asked when one fails.
        let_go: told the recipe, as JSON, of a trial that was stopped.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        base: Recipe,
        objective: Objective,
        yardstick: Sequence[float],
        is_broken: Callable[[], bool] = lambda: False,
        let_go: Callable[[str], object] = lambda recipe: None,
    ):
        self._study, self._yardstick, self._metrics = study, yardstick, objective.metrics
        self._is_broken, self._let_go, self._has_ended = is_broken, let_go, False
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
        """Whether the study's pruner would stop the trial at this result.

        A text under way says something as soon as it has cost more than it cost the best trial: it can only lose there.
        """
        self.on_trial_result(trial_id, result)
        try:
            best = self._ot_study.best_trial.intermediate_values
        except ValueError:  # none is complete
            return False
        seen = copy.copy(self._told(trial_id))
        least = {place: self._excess(result, place) for place in result["under_way"]}
        lost = {place: excess for place, excess in least.items() if excess > best.get(place, math.inf)}
        seen.intermediate_values = seen.intermediate_values | lost
        return self._ot_study.pruner.prune(self._ot_study, seen)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the excess of each text that has ended under its place; what was told before is left as it is."""
        if len(self._metrics) > 1:
            return
        trial, told = self._ot_trials[trial_id], self._told(trial_id).intermediate_values
        for place in range(len(result["costs"])):
            if place not in told and place not in result["under_way"]:
                trial.report(self._excess(result, place), step=place)

    def _excess(self, result: dict[str, Any], place: int) -> float:
        """How much more than under the base recipe a text costs; means over unlike texts can be compared then."""
        return result["costs"][place] - self._yardstick[place]

    def _told(self, trial_id: str) -> FrozenTrial:
        return self._ot_study.get_trials(deepcopy=False)[self._ot_trials[trial_id].number]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Complete with its values, pruned if it saw too few texts, failed without a finite result.

        A trial whose process was lost, or that nobody was there for, is left running for `adopt_orphans`. Ray tries the
        former again by itself, but not where the process was one that an earlier trial had left.
        """
        if trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        trial, result = self._ot_trials[trial_id], result or {}
        if error:
            self._has_ended = self._is_broken()
            if not self._has_ended:
                mourn(self._ot_study, trial)
            return
        found = [result.get(metric) for metric in self._metrics]
        values = [math.nan if value is None else float(value) for value in found]
        for name in KEPT:
            if name in result:
                trial.set_user_attr(name, result[name])
        if not all(map(math.isfinite, values)):
            self._ot_study.tell(trial, state=TrialState.FAIL)
        elif result["texts"] < len(self._yardstick):
            self._ot_study.tell(trial, state=TrialState.PRUNED)
            self._let_go(trial.user_attrs["recipe"])
        else:
            self._ot_study.tell(trial, values)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's storage is the state, and a resumed search reads that."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, see `save`; Ray pickles what it is given."""
        return {}
