"""Ray's OptunaSearch, made safe: every trial ends in the study, and as what it was.

Owns: what a trial's end means to Optuna. Must not know: Ray's scheduling, where the study lies.

OptunaSearch (Ray 2.60) leaves a trial with a NaN running for ever, calls a stopped trial complete, and opens its study
itself, merging whatever has the same name; all three are replaced here.
"""

import math
import warnings
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
from tune_spaces.stopping import loses
from tune_spaces.study import mourn, winner

KEPT = ("exact_frac", "margin", "positions", "texts", "cost", "costs")
"""Figures of the last report that go into the study beside the objective."""


class SafeOptunaSearch(OptunaSearch):
    """Asks a study for recipes and tells it what they came to.

    Args:
        study: opened and checked.
        space: draws a recipe from a trial.
        base: what the space leaves open.
        num_texts: a trial with fewer that have ended was stopped.
        is_broken: whether trials fail because nobody is there to solve their texts; asked when one fails.
        let_go: told the recipe, as JSON, of a trial that was stopped.
        most_at_once: trials that may be under way; asked before each, since the solvers may become more or fewer.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        base: Recipe,
        objective: Objective,
        num_texts: int,
        is_broken: Callable[[], bool] = lambda: False,
        let_go: Callable[[str], object] = lambda recipe: None,
        most_at_once: Callable[[], float] = lambda: math.inf,
    ):
        self._study, self._num_texts, self._metrics = study, num_texts, objective.metrics
        self._is_broken, self._let_go, self._has_ended = is_broken, let_go, False
        self._most_at_once = most_at_once
        single = objective.is_single
        super().__init__(
            space=lambda trial: {"recipe": space.draw(trial, base).model_dump_json()},
            metric=objective.metrics[0] if single else list(objective.metrics),
            mode=objective.modes[0] if single else objective.modes,
        )

    def _setup_study(self, mode: str | list) -> None:
        self._ot_study = self._study

    def suggest(self, trial_id: str) -> Any:
        """A recipe to try; not now where enough are under way, none any more once nobody is there to try it."""
        if self._has_ended:
            return Searcher.FINISHED
        if len(self._ot_trials) - len(self._completed_trials) >= self._most_at_once():
            return None
        try:
            with warnings.catch_warnings():
                # Ray warns of a second; over sixty parameters that is the sampler's own work.
                warnings.filterwarnings("ignore", "Define-by-run function")
                config = super().suggest(trial_id)
        except SettingsError:
            self._ot_study.tell(self._ot_trials[trial_id], state=TrialState.FAIL)
            raise
        if config is not None:
            self._ot_trials[trial_id].set_user_attr("recipe", config["recipe"])
        return config

    def is_hopeless(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial loses against the best complete one."""
        best = winner(self._ot_study)
        return best is not None and loses(dict(result["costs"]), dict(best.user_attrs["costs"]))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the study hears of a trial at its end."""

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
        elif result["texts"] < self._num_texts:
            if len(values) == 1:
                trial.report(values[0], step=len(result["costs"]))  # what the sampler ranks stopped trials by
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
