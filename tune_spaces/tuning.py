"""`verbatim tune`: from options to the best recipe.

Owns: the order of a search's steps and their shutdown. Must not know: how recipes are drawn, texts solved, trials run.

    options -> checks that write nothing -> pool -> sample -> study -> base recipe -> Ray Tune -> hold-out
            -> best.toml, report

Interrupted, a search leaves these of what it has. Killed at any point, the same command goes on: outcomes that were
paid for are in `outcomes.jsonl`, ended trials in the study; trials that were under way are tried again with the same
parameters.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import optuna
import ray
from rich.console import Console

from engine.loading import require_whole_files
from engine.recipe import Recipe, load_recipe
from orchestrator.console.errors import UserError
from orchestrator.console.terminal import say, say_json
from orchestrator.corpus import Corpus, open_corpus
from orchestrator.fleet import workers
from orchestrator.report.files import PAGE
from orchestrator.storage import open_storage
from orchestrator.storage.folder_lock import sole_writer
from orchestrator.storage.location import absolute, join
from tune_spaces import results
from tune_spaces.callbacks import require_callbacks
from tune_spaces.headline import headline, is_base_best
from tune_spaces.hold_out import Comparison, compare, kept_comparison, read_comparison
from tune_spaces.objective import OBJECTIVES
from tune_spaces.opened import Opened, open_pool
from tune_spaces.options import TuneOptions
from tune_spaces.progress import Keeper, read_progress
from tune_spaces.record import TuneRecord, read_record
from tune_spaces.running import run_trials
from tune_spaces.study import adopt_orphans, ended_trials, open_study, winner
from tune_spaces.table import best_table


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Attributes:
        best: the recipe in best.toml: the winner, or the base where the winner lost.
        base: as it suits the model.
        comparison: on the held-out texts; None without any, without a complete trial, or if the winner is the base.
    """

    study: optuna.Study
    best: Recipe
    base: Recipe
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
    require_callbacks(options.callbacks)
    centre = options.space.centre(options.base)
    if settings.objective == "capacity":
        _require_fixed_vectors(options, centre)
    read_record(options.out)
    return open_corpus(options.corpus, options.reading)


def _require_fixed_vectors(options: TuneOptions, centre: Mapping[str, Any]) -> None:
    """More vectors hold a longer text, so recipes compare in what they hold at the same number alone.

    Raises:
        UserError: the space or the base would change it.
    """
    drawn = next((key for key in ("num_vectors", "growth") if key in centre), None)
    if drawn is not None:
        raise UserError(
            f"--objective capacity: the space {options.space.name} draws {drawn}, and more vectors hold more; choose "
            "another --space"
        )
    base = options.base
    if base.num_vectors == "auto" or (base.attempts > 1 and base.growth != 1 and base.after_failure == "grow"):
        raise UserError(
            f"--objective capacity: compares recipes at one number of vectors, and num_vectors is {base.num_vectors}, "
            f"attempts {base.attempts}, growth {base.growth:g}; give --set num_vectors=4 --set growth=1"
        )


def tune_recipe(options: TuneOptions, console: Console) -> Tuned:
    """Search, check the winner, write what came of it."""
    corpus = require_sound(options)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with sole_writer(options.out):
        if (finished := _finished(options, corpus)) is not None:
            say(console, f"{options.place} is finished: {len(ended_trials(finished.study))} trials, nothing to do")
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
    record = options.record(
        corpus, earlier.fingerprint, dtype, earlier.engine, earlier.vector_plan, earlier.sizes, earlier.adaptation
    )
    record.keep(options.out)
    study = _open_study(options, record)
    # A folder from before there was a `progress.json` has its report when it is finished.
    is_finished = progress.state == "finished" if progress else (options.out / results.REPORT).is_file()
    if len(ended_trials(study)) < options.settings.trials or not is_finished:
        return None
    return Tuned(study, load_recipe(options.out / results.BEST), record.base, read_comparison(options.out))


def _search(options: TuneOptions, corpus: Corpus, console: Console) -> Tuned:
    opened = open_pool(options, corpus, console)
    options = options.suited(opened.record.adaptation)
    study = _open_study(options, opened.record)
    keeper = Keeper(options.out, options.settings.trials, opened.num_solvers)
    keeper.write("running")
    try:
        prepare(study, options, console)
        open_storage(options.out).replace(kept_comparison(None))  # a comparison is of the winner that was
        run_trials(options, study, opened, console, on_end=partial(_tell, keeper, options))
        tuned = _check(options, study, opened)
    except BaseException:
        keeper.write("interrupted")
        _leave(options, study, opened.record, console)
        raise
    results.write(options.out, study, opened.record, tuned.best, tuned.comparison)
    keeper.write("finished")
    return tuned


def _tell(keeper: Keeper, options: TuneOptions) -> None:
    keeper.write("running")
    options.on_change()


def _leave(options: TuneOptions, study: optuna.Study, record: TuneRecord, console: Console) -> None:
    """What a search that is ended before its time has come to, for whoever wants no more of it.

    That it cannot be written is only told, since something else ended the search.
    """
    best, num_ended = winner(study), len(ended_trials(study))
    recipe = Recipe.model_validate_json(best.user_attrs["recipe"]) if best else options.base
    note = f"Interrupted after {num_ended} of {options.settings.trials} trials, and not checked on held-out texts"
    try:
        results.write(options.out, study, record, recipe, None, note, "interrupted")
    except (OSError, UserError) as error:
        say(console, f"no report of what there is: {error}")


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


def _check(options: TuneOptions, study: optuna.Study, opened: Opened) -> Tuned:
    """The winner against the base on texts that no trial saw."""
    best = winner(study)
    if best is None:
        return Tuned(study, options.base, options.base, None)
    recipe = Recipe.model_validate_json(best.user_attrs["recipe"])
    hold_out = opened.sample.hold_out
    if is_base_best(study, options.base) or not hold_out:
        return Tuned(study, recipe, options.base, None)
    ours, theirs = workers.get([opened.solve(each, hold_out) for each in (recipe, options.base)])
    comparison = compare(ours, theirs, options.settings.objective)
    return Tuned(study, recipe if comparison.is_win else options.base, options.base, comparison)


def print_tuned(tuned: Tuned, options: TuneOptions, console: Console, *, as_json: bool = False) -> None:
    """The best trials, the comparison, and how to use the recipe."""
    best, report = (join(options.place, name) for name in (results.BEST, f"report/{PAGE}"))
    told = headline(tuned.study, tuned.base, tuned.comparison)
    if as_json:
        comparison = None if tuned.comparison is None else asdict(tuned.comparison)
        say_json(
            {
                "folder": str(options.place), "best": str(best), "report": str(report),
                "num_trials": len(ended_trials(tuned.study)), "headline": told, "comparison": comparison,
                "is_base": tuned.best.hash == tuned.base.hash, "recipe": tuned.best.model_dump(mode="json"),
            }
        )  # fmt: skip
        return
    say(console, told, "bold")
    console.print(best_table(ended_trials(tuned.study), console, OBJECTIVES[options.settings.objective]))
    is_base = tuned.best.hash == tuned.base.hash
    say(console, f"recipe: {best}{', the base' if is_base else ''}")
    say(console, f"report: {report}")
    if options.kept_at is None:
        say(console, f"next: verbatim run {shlex.quote(absolute(options.corpus))} --recipe {shlex.quote(str(best))}")
