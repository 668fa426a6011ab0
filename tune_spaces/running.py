"""The trials of a search, run by Ray Tune.

Owns: what Ray Tune is told, one round of trials after another. Must not know: how recipes are drawn, texts solved, what
a search is for.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import optuna
import ray
from ray import tune
from rich.console import Console

from orchestrator.console.terminal import say
from tune_spaces.callbacks import make_callbacks, trials_folder
from tune_spaces.objective import OBJECTIVES
from tune_spaces.opened import MOST_AT_ONCE, NEWS_S, Every, Opened, say_news
from tune_spaces.options import TuneOptions
from tune_spaces.search import StudySearch
from tune_spaces.stopping import make_scheduler
from tune_spaces.study import MAX_DEATHS, adopt_orphans, ended_trials
from tune_spaces.table import TrialTable
from tune_spaces.trial import trial

LOOK_S = 0.25
"""Seconds between two looks at a trial that may be stopped inside a rung."""

TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: no output of Ray's beside the table
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # the study is the state
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt ends the search as it ends a run
}
"""What Ray Tune takes from the environment alone."""


def run_trials(
    options: TuneOptions,
    study: optuna.Study,
    opened: Opened,
    console: Console,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Draw and run what the study still misses of the trials asked for.

    Args:
        on_end: told when a trial has ended.
    """
    if len(ended_trials(study)) >= options.settings.trials:
        return
    say(console, f"measuring the base recipe on {len(opened.sample.tune)} texts")
    opened = opened.cheapest_first(options.base)
    while (missing := options.settings.trials - len(ended_trials(study))) > 0:
        _fit(missing, options, study, opened, console, on_end)
        opened.require_well()
        if not adopt_orphans(study):
            return


def _fit(
    num_trials: int,
    options: TuneOptions,
    study: optuna.Study,
    opened: Opened,
    console: Console,
    on_end: Callable[[], None],
) -> None:
    """Some trials under Ray Tune; those that it gives up on stay running in the study."""
    settings, sample, objective = options.settings, opened.sample, OBJECTIVES[options.settings.objective]
    search = StudySearch(
        study,
        options.space,
        options.base,
        objective,
        len(sample.tune),
        is_broken=lambda: opened.fault() is not None,
        let_go=lambda recipe: opened.pool.drop.remote(recipe),
        most_at_once=Every(NEWS_S, lambda: options.concurrent or opened.trials_at_once()),
    )
    scheduler = make_scheduler(
        settings.stopping, rungs=sample.rung_ends, is_hopeless=search.is_hopeless, objective=objective
    )
    look_s = LOOK_S if settings.stopping == "wilcoxon" else math.inf  # the others compare means over whole rungs
    news = Every(NEWS_S, lambda: say_news(opened.pool, console))
    table = TrialTable(console, study, settings.trials, objective, on_result=news, on_end=on_end)
    os.environ.update(TUNE_SETTINGS)
    with trials_folder(options.callbacks, options.out) as folder:
        tuner = tune.Tuner(
            beside_the_driver(tune.with_parameters(trial, pool=opened.pool, rungs=sample.rungs, look_s=look_s)),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler,
                num_samples=num_trials,
                max_concurrent_trials=options.concurrent or MOST_AT_ONCE,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                callbacks=[table, *make_callbacks(options.callbacks, options.out.name)],
                failure_config=tune.FailureConfig(max_failures=MAX_DEATHS),
            ),
        )
        try:
            tuner.fit()
        finally:
            table.close()


def beside_the_driver(trainable: Any) -> Any:
    """Trials run where the driver does: they are light, and their folder is the driver's."""
    (here,) = (node for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id())
    return tune.with_resources(trainable, {"cpu": 0, f"node:{here['NodeManagerAddress']}": 0.001})
