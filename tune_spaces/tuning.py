"""`verbatim tune`: from options to the best recipe.

Owns: the order of a search's steps and their shutdown. Must not know: how recipes are drawn, texts solved, trials run.

    options -> checks that write nothing -> pool -> sample -> study -> base recipe -> Ray Tune -> hold-out
            -> best.toml, report

Interrupted, a search leaves these of what it has. Killed at any point, the same command goes on: outcomes that were
paid for are in `outcomes.jsonl`, ended trials in the study; trials that were under way are tried again with the same
parameters.
"""

import math
import os
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass

import optuna
import ray
from ray import tune
from rich.console import Console

from engine.loading import require_whole_files
from engine.recipe import Recipe, load_recipe
from orchestrator.console.errors import UserError
from orchestrator.console.terminal import say, say_json
from orchestrator.corpus import Corpus, open_corpus
from orchestrator.fleet import workers
from orchestrator.storage.folder_lock import sole_writer
from orchestrator.storage.location import absolute
from tune_spaces import results
from tune_spaces.hold_out import Comparison, compare
from tune_spaces.objective import OBJECTIVES
from tune_spaces.opened import MOST_AT_ONCE, NEWS_S, Every, Opened, open_pool, say_news
from tune_spaces.options import TuneOptions
from tune_spaces.progress import Keeper, read_progress
from tune_spaces.record import TuneRecord, read_record
from tune_spaces.search import StudySearch
from tune_spaces.stopping import make_scheduler
from tune_spaces.study import MAX_DEATHS, adopt_orphans, ended_trials, open_study, winner
from tune_spaces.table import TrialTable, best_table
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


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Attributes:
        best: the recipe in best.toml: the winner, or the base where the winner lost.
        comparison: on the held-out texts; None without any, without a complete trial, if the winner is the base, or if
            it was made by an earlier call.
    """

    study: optuna.Study
    best: Recipe
    comparison: Comparison | None


def require_sound(options: TuneOptions) -> Corpus:
    """Refuse what cannot be, before anything is written or started; the opened corpus.

    Raises:
        UserError: names the option, its value and what it may be.
    """
    options.require_known()
    settings = options.settings
    if not OBJECTIVES[settings.objective].is_single and settings.stopping != "none":
        raise UserError(
            f"--stopping {settings.stopping}: with several objectives no trial is worse than another half-way; "
            "give --stopping none"
        )
    options.space.centre(options.base)
    read_record(options.out)
    return open_corpus(options.corpus, options.reading)


def tune_recipe(options: TuneOptions, console: Console) -> Tuned:
    """Search, check the winner, write what came of it."""
    corpus = require_sound(options)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with sole_writer(options.out):
        if (finished := _finished(options, corpus)) is not None:
            say(console, f"{options.out} is finished: {len(ended_trials(finished.study))} trials, nothing to do")
            return finished
        require_whole_files(options.source)
        dashboard = workers.connect(options.address, dashboard=options.dashboard)
        if dashboard:
            say(console, f"Ray dashboard: {dashboard}")
        try:
            return _search(options, corpus, console)
        finally:
            ray.shutdown()


def _finished(options: TuneOptions, corpus: Corpus) -> Tuned | None:
    """What a folder holds that has all its trials; None where something is left to do.

    Raises:
        UserError: the folder holds another search, seen before any model is loaded.
    """
    earlier, progress = read_record(options.out), read_progress(options.out)
    if earlier is None:
        return None
    dtype = options.dtype or earlier.dtype
    record = options.record(corpus, earlier.fingerprint, dtype, earlier.engine, earlier.vector_plan)
    record.keep(options.out)
    study = _open_study(options, record)
    # A folder from before there was a `progress.json` has its report when it is finished.
    is_finished = progress.state == "finished" if progress else (options.out / results.REPORT).is_file()
    if len(ended_trials(study)) < options.settings.trials or not is_finished:
        return None
    return Tuned(study, load_recipe(options.out / results.BEST), None)


def _search(options: TuneOptions, corpus: Corpus, console: Console) -> Tuned:
    opened = open_pool(options, corpus, console)
    study = _open_study(options, opened.record)
    keeper = Keeper(options.out, options.settings.trials, opened.num_solvers)
    keeper.write("running")
    try:
        prepare(study, options, console)
        run_trials(options, study, opened, console, on_end=lambda: keeper.write("running"))
        tuned = _check(options, study, opened)
    except BaseException:
        _leave(options, study, opened.record)
        keeper.write("interrupted")
        raise
    results.write(options.out, study, opened.record, tuned.best, tuned.comparison)
    keeper.write("finished")
    return tuned


def _leave(options: TuneOptions, study: optuna.Study, record: TuneRecord) -> None:
    """What a search that is ended before its time has come to, for whoever wants no more of it."""
    best, num_ended = winner(study), len(ended_trials(study))
    recipe = Recipe.model_validate_json(best.user_attrs["recipe"]) if best else options.base
    note = f"Interrupted after {num_ended} of {options.settings.trials} trials, and not checked on held-out texts"
    results.write(options.out, study, record, recipe, None, note)


def _open_study(options: TuneOptions, record: TuneRecord) -> optuna.Study:
    return open_study(
        options.out,
        record.study_name,
        OBJECTIVES[options.settings.objective],
        sampler=options.settings.sampler,
        seed=options.seed,
    )


def prepare(study: optuna.Study, options: TuneOptions, console: Console) -> None:
    """Take up what an earlier call left; a new study begins with the base recipe itself."""
    num_orphans = adopt_orphans(study)
    if study.trials:
        say(console, f"goes on: {len(ended_trials(study))} trials ended, {num_orphans} to be tried again")
    else:
        study.enqueue_trial(options.space.centre(options.base))


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
    settings, sample = options.settings, opened.sample
    search = StudySearch(
        study,
        options.space,
        options.base,
        OBJECTIVES[settings.objective],
        len(sample.tune),
        is_broken=lambda: opened.fault() is not None,
        let_go=lambda recipe: opened.pool.drop.remote(recipe),
        most_at_once=Every(NEWS_S, lambda: options.concurrent or opened.trials_at_once()),
    )
    scheduler = make_scheduler(settings.stopping, rungs=sample.rung_ends, is_hopeless=search.is_hopeless)
    look_s = LOOK_S if settings.stopping == "wilcoxon" else math.inf  # the others compare means over whole rungs
    news = Every(NEWS_S, lambda: say_news(opened.pool, console))
    table = TrialTable(console, study, settings.trials, on_result=news, on_end=on_end)
    os.environ.update(TUNE_SETTINGS)
    # Trials report figures only; what Ray keeps of them is thrown away with this folder.
    with tempfile.TemporaryDirectory(prefix="verbatim-tune-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(trial, pool=opened.pool, rungs=sample.rungs, look_s=look_s), _beside_the_driver()
            ),
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
                callbacks=[table],
                failure_config=tune.FailureConfig(max_failures=MAX_DEATHS),
            ),
        )
        try:
            tuner.fit()
        finally:
            table.close()


def _check(options: TuneOptions, study: optuna.Study, opened: Opened) -> Tuned:
    """The winner against the base on texts that no trial saw."""
    best = winner(study)
    if best is None:
        return Tuned(study, options.base, None)
    recipe = Recipe.model_validate_json(best.user_attrs["recipe"])
    hold_out = opened.sample.hold_out
    if recipe.hash == options.base.hash or not hold_out:
        return Tuned(study, recipe, None)
    comparison = compare(*workers.get([opened.solve(each, hold_out) for each in (recipe, options.base)]))
    return Tuned(study, recipe if comparison.is_win else options.base, comparison)


def _beside_the_driver() -> dict[str, float]:
    """Where trials run: they are light, and their folder is the driver's."""
    (here,) = (node for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id())
    return {"cpu": 0, f"node:{here['NodeManagerAddress']}": 0.001}


def print_tuned(tuned: Tuned, options: TuneOptions, console: Console, *, as_json: bool = False) -> None:
    """The best trials, the comparison, and how to use the recipe."""
    best, report = options.out / results.BEST, options.out / results.REPORT
    if as_json:
        comparison = None if tuned.comparison is None else asdict(tuned.comparison)
        say_json(
            {
                "folder": str(options.out), "best": str(best), "report": str(report),
                "num_trials": len(ended_trials(tuned.study)), "comparison": comparison,
                "is_base": tuned.best.hash == options.base.hash, "recipe": tuned.best.model_dump(mode="json"),
            }
        )  # fmt: skip
        return
    console.print(best_table(ended_trials(tuned.study), console))
    if tuned.comparison:
        say(console, tuned.comparison.verdict)
    elif winner(tuned.study) is None:
        say(console, "no trial is complete; best.toml is the base recipe")
    say(console, f"best recipe: {best}")
    say(console, f"report: {report}")
    say(console, f"next: verbatim run {shlex.quote(absolute(options.corpus))} --recipe {shlex.quote(str(best))}")
