"""The study of a search: opened or gone on with, cleaned, and asked what came of it.

Owns: its storage, name, sampler and orphans. Must not know: Ray, how trials run.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.console.errors import UserError
from orchestrator.storage.torn_line import cut_torn_line
from tune_spaces.objective import Objective

FILE = "study.journal"
RETRY_OF = "retry_of"
"""Attribute of a trial that takes up the parameters of one whose search died: that one's number."""

DIED = "died"
"""Attribute of a trial whose process was lost."""

MAX_DEATHS = 3
"""Processes a set of parameters may lose before it counts as failed."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class SeededByTrial(BaseSampler):
    """Draws each trial with a generator of its own, so that a resumed search draws what it would have drawn.

    Args:
        make: a sampler from a seed.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int):
        self._make, self._seed = make, seed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        name = f"{self._seed}/{_draw_number(study, trial)}"
        self._sampler = self._make(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna calls TPE's options and the Wilcoxon pruner experimental; the lock file pins its version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _tpe(seed: int) -> BaseSampler:
    with quiet():
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {"tpe": _tpe, "random": lambda seed: RandomSampler(seed=seed)}
"""By name, from a seed. TPE looks at all parameters of one branch of a space together, and counts running trials."""


def open_study(folder: Path, name: str, objective: Objective, *, sampler: str, seed: int) -> optuna.Study:
    """The folder's study, made if it is not there; a journal line torn by a kill is cut off.

    Args:
        name: holds a fingerprint of all that decides what a trial's value means.
    Raises:
        UserError: the folder's study has another name or other directions.
    """
    path = folder / FILE
    cut_torn_line(path)
    path.with_name(f"{FILE}.lock").unlink(missing_ok=True)  # of a writer that died: the folder's lock is ours
    try:
        storage = JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); restore it from a copy, or choose another --out") from error
    names = optuna.get_all_study_names(storage)
    if names not in ([], [name]):
        raise UserError(f"{path}: holds the study {names[0]}, not {name}; choose another --out")
    parts: dict[str, Any] = {
        "study_name": name,
        "storage": storage,
        "sampler": SeededByTrial(SAMPLERS[sampler], seed),
    }
    if not names:
        return optuna.create_study(directions=objective.directions, **parts)
    study = optuna.load_study(**parts)
    found = tuple(direction.name.lower() for direction in study.directions)
    if found != objective.directions:
        raise UserError(f"{path}: its study has directions {found}, not {objective.directions}; choose another --out")
    return study


def read_study(folder: Path) -> optuna.Study | None:
    """The folder's study, to be looked at alone while another process may write to it; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        names = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=names[0], storage=storage) if names else None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); restore it from a copy") from error


def adopt_orphans(study: optuna.Study) -> int:
    """Fail every trial that a dead search left running, its parameters queued for another one; how many."""
    orphans = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    adopted = _adopted(study)
    for orphan in orphans:
        # In this order: a search that dies in between must find the orphan still running.
        if orphan.number not in adopted:
            study.enqueue_trial(_meant(orphan), user_attrs={RETRY_OF: orphan.number})
        study.tell(orphan.number, state=TrialState.FAIL)
    return len(orphans)


def mourn(study: optuna.Study, trial: optuna.Trial) -> None:
    """Its process was lost: a trial is left running for `adopt_orphans`, or failed where that came too often."""
    trial.set_user_attr(DIED, True)
    if sum(DIED in life.user_attrs for life in _lives(study, trial.number)) >= MAX_DEATHS:
        study.tell(trial, state=TrialState.FAIL)


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count: complete, pruned or failed by themselves, each set of parameters once."""
    adopted = _adopted(study)
    return [trial for trial in study.get_trials(deepcopy=False, states=ENDED) if trial.number not in adopted]


def winner(study: optuna.Study) -> FrozenTrial | None:
    """The best complete trial; of several objectives the first decides. None if none is complete."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.directions[0] is StudyDirection.MINIMIZE else -1
    return min(complete, key=lambda trial: sign * trial.values[0], default=None)


def _meant(orphan: FrozenTrial) -> dict[str, Any]:
    """The parameters it had, or was queued with if its search died before they were all drawn."""
    return orphan.params if "recipe" in orphan.user_attrs else orphan.system_attrs.get("fixed_params", {})


def _draw_number(study: optuna.Study, trial: FrozenTrial) -> int:
    """Which draw of the search this is; one that takes up an orphan's parameters is that one's draw."""
    first = _lives(study, trial.number)[-1]
    return sum(RETRY_OF not in earlier.user_attrs for earlier in study.get_trials(deepcopy=False)[: first.number])


def _lives(study: optuna.Study, number: int) -> list[FrozenTrial]:
    """A trial and those whose parameters it took up, the first of them last."""
    trials = study.get_trials(deepcopy=False)
    lives = [trials[number]]
    while RETRY_OF in lives[-1].user_attrs:
        lives.append(trials[lives[-1].user_attrs[RETRY_OF]])
    return lives


def _adopted(study: optuna.Study) -> set[int]:
    """Numbers of orphans whose parameters were queued anew."""
    return {trial.user_attrs[RETRY_OF] for trial in study.get_trials(deepcopy=False) if RETRY_OF in trial.user_attrs}
