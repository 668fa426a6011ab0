"""An Optuna study as one of Ray's searchers: every trial ends in the study, and as what it was.

Owns: what a trial's end means to Optuna. Must not know: Ray's scheduling, where the study lies.

Ray's own OptunaSearch (2.60) leaves a trial with a NaN running for ever, calls a stopped trial complete, and opens its
study itself, merging whatever has the same name. This one asks and tells a study that was opened and checked before;
of Ray it uses `Searcher`, which is made to be derived from.
"""

import math
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from engine.recipe import Recipe
from engine.settings import SettingsError
from tune_spaces.objective import Objective
from tune_spaces.spaces import Space
from tune_spaces.stopping import loses
from tune_spaces.study import mourn, winner

KEPT = ("exact_frac", "margin", "positions", "texts", "prefix_tokens", "cost", "costs", "missing")
"""Figures of the last report that go into the study beside the objective."""


class StudySearch(Searcher):
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
        self._study, self._space, self._base = study, space, base
        self._objective, self._num_texts = objective, num_texts
        self._is_broken, self._let_go, self._most_at_once = is_broken, let_go, most_at_once
        self._under_way: dict[str, optuna.Trial] = {}
        self._has_ended = False
        single = objective.is_single
        super().__init__(
            metric=objective.metrics[0] if single else list(objective.metrics),  # pyright: ignore[reportArgumentType]
            mode=objective.modes[0] if single else objective.modes,  # pyright: ignore[reportArgumentType]
        )

    def suggest(self, trial_id: str) -> Any:
        """A recipe to try; not now where enough are under way, none any more once nobody is there to try it.

        Raises:
            SettingsError: what was drawn and the base contradict each other; the study has it as failed.
        """
        if self._has_ended:
            return Searcher.FINISHED
        if len(self._under_way) >= self._most_at_once():
            return None
        trial = self._study.ask()
        try:
            recipe = self._space.draw(trial, self._base).model_dump_json()
        except SettingsError:
            self._study.tell(trial, state=TrialState.FAIL)
            raise
        trial.set_user_attr("recipe", recipe)
        self._under_way[trial_id] = trial
        return {"recipe": recipe, "drawn": trial.params}  # the latter for callbacks that log it

    def is_hopeless(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial loses against the best complete one."""
        best = winner(self._study)
        paired = self._objective.paired
        return best is not None and loses(dict(result[paired]), dict(best.user_attrs[paired]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Complete with its values, pruned if it saw too few texts, failed without a finite result.

        A trial whose process was lost, or that nobody was there for, is left running for `adopt_orphans`. Ray tries the
        former again by itself, but not where the process was one that an earlier trial had left.
        """
        trial = self._under_way.pop(trial_id, None)
        if trial is None:  # told twice
            return
        if error:
            self._has_ended = self._is_broken()
            if not self._has_ended:
                mourn(self._study, trial)
            return
        self._end(trial, result or {})

    def _end(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        found = [result.get(metric) for metric in self._objective.metrics]
        values = [math.nan if value is None else float(value) for value in found]
        for name in KEPT:
            if name in result:
                trial.set_user_attr(name, result[name])
        if not all(map(math.isfinite, values)):
            self._study.tell(trial, state=TrialState.FAIL)
        elif result["texts"] < self._num_texts:
            if len(values) == 1:
                trial.report(values[0], step=len(result["costs"]))  # what the sampler ranks stopped trials by
            self._study.tell(trial, state=TrialState.PRUNED)
            self._let_go(trial.user_attrs["recipe"])
        else:
            self._study.tell(trial, values)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's storage is the state, and a resumed search reads that."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, see `save`; Ray pickles what it is given."""
        return {}
