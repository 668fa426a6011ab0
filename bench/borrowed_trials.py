"""Trials an hour: slots borrowed from resident models, against one actor a trial that loads its own.

    python -m bench.borrowed_trials              # 120 trials on 16 texts, on an otherwise idle machine
    python -m bench.borrowed_trials --corpus demo --texts 4

First a search as `verbatim tune` does it: recipes of the quick space, drawn at random, stopped as soon as they lose.
Then the ordinary way, what a Ray Tune user writes first: a trainable that loads the model and the verifying engine,
solves its texts in one table and decodes them; one processor a trial, so as many trials as processors run at once. It
gets the same recipes on the same texts, and spends on each text the positions that were spent on it in ours: who
stopped a trial does not count, only who loads. Its trials do not know of each other, so every third is enough for a
rate. Ours has its one load and the base recipe's measurement besides; the ratio is told with and without the load,
since a search has it once.

The last lines model a 7B on one GPU. Writes bench/results/borrowed_trials_CORPUS_TEXTS.json.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from rich.console import Console

from engine.frozen_lm import FrozenLM, TokenRule
from engine.held import held
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Job
from engine.solver import Solver
from orchestrator.fleet import workers
from orchestrator.fleet.verifier_actor import EngineSpec, make_verifier
from orchestrator.sizing.sharing import KINDS
from orchestrator.verifiers.contract import Candidate
from tune_spaces.objective import OBJECTIVES
from tune_spaces.opened import open_pool
from tune_spaces.options import TuneOptions
from tune_spaces.running import TUNE_SETTINGS
from tune_spaces.spaces import preset, space
from tune_spaces.study import ended_trials, open_study
from tune_spaces.tuning import prepare, require_sound, run_trials

ROOT = Path(__file__).parent.parent
BASE = load_recipe(None, ["attempts=1"])

PARAMETERS = 7e9
FLOPS_S = 3e14
"""Of one GPU in bfloat16 products of this size: a third of what an H100's data sheet gives. Assumption."""

PASS_S = 0.05
"""Seconds of one pass forward and backward, however few positions it holds. Assumption."""

LOADS_S = (30, 60, 120)
"""Seconds to load 15 GB of weights and to start the verifying engine. Assumption."""


def ordinary_trial(config: dict[str, Any], *, trials: list[list[Job]], context: int) -> None:
    """A trial that owns its models."""
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    started = time.monotonic()
    lm = FrozenLM.load(ModelSource())
    solver = Solver(lm, table_positions=KINDS["cpu"].most_positions)
    verifier = make_verifier(EngineSpec("vllm", ModelSource().path, None, "float32", context))
    loaded = time.monotonic()
    attempts = solver.solve(trials[config["number"]])
    solved = [attempt for attempt in attempts if attempt.is_candidate]
    verdicts = verifier.judge(
        [Candidate(a.job.target.id, held(a.prompt_KD).numpy(), a.job.target.token_ids) for a in solved]
    )
    tune.report(
        {
            "load_s": loaded - started,
            "work_s": time.monotonic() - loaded,
            "positions": sum(attempt.positions for attempt in attempts),
            "exact": sum(verdict.exact for verdict in verdicts),
        }
    )


def run_ordinary(trials: list[list[Job]], context: int) -> tuple[float, list[dict[str, Any]]]:
    """Seconds for all trials, and what each reported."""
    os.environ.update(TUNE_SETTINGS)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(ordinary_trial, trials=trials, context=context), {"cpu": 1}),
            param_space={"number": tune.grid_search(list(range(len(trials))))},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    assert not results.errors, results.errors
    return time.monotonic() - started, [result.metrics or {} for result in results]


def run_borrowed(
    options: TuneOptions, console: Console
) -> tuple[float, float, list[optuna.trial.FrozenTrial], list[Job]]:
    """Seconds with the one load, seconds without it, the trials, and their texts in order."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        options = replace(options, out=Path(folder))
        opened = open_pool(options, require_sound(options), console)
        loaded = time.monotonic()
        study = open_study(Path(folder), "borrowed", OBJECTIVES["cost"], sampler="random", seed=0)
        prepare(study, options, console)
        run_trials(options, study, opened, console)
        ended = time.monotonic()
        return ended - started, ended - loaded, ended_trials(study), opened.cheapest_first(options.base).sample.tune


def spent(trial: optuna.trial.FrozenTrial, texts: list[Job]) -> list[Job]:
    """What a trial did: its texts under its recipe, each with the positions it was given."""
    recipe = Recipe.model_validate_json(trial.user_attrs["recipe"])
    by_id = {text.target.id: text for text in texts}
    return [
        replace(by_id[id], recipe=recipe, budget=cost * by_id[id].num_positions)
        for id, cost in trial.user_attrs["costs"]
    ]


def modelled(mean_positions: float, num_passes: float, num_trials: int) -> list[dict[str, float]]:
    """The same ratio for a 7B on one GPU: 4 FLOPs a parameter and position, forward and backward through activations.

    A trial of its own waits for each of its passes; trials that share passes fill them, so that FLOPs alone count. Ours
    loads once. `ratio_to_resident` is against trials one after the other in a process that keeps its model.
    """
    shared_s = mean_positions * 4 * PARAMETERS / FLOPS_S
    alone_s = max(shared_s, num_passes * PASS_S)
    rows = []
    for load_s in LOADS_S:
        ours_s = shared_s + load_s / num_trials
        rows.append(
            {"load_s": load_s, "alone_s": alone_s, "shared_s": shared_s, "ratio": (load_s + alone_s) / ours_s,
             "ratio_to_resident": (load_s / num_trials + alone_s) / ours_s}
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--corpus", default="english_1k", help="one of the shipped ones")
    parser.add_argument("--every", type=int, default=3, help="of how many trials the ordinary way runs one")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(logging.WARNING)
    console = Console()
    settings = preset("quick", trials=asked.trials, texts=asked.texts, hold_out=0, sampler="random")
    options = TuneOptions(
        ROOT / "corpora" / f"{asked.corpus}.parquet", ROOT / "borrowed", settings, space("quick"), BASE
    )
    workers.connect(None, dashboard=False)
    try:
        ours_s, warm_s, ended, texts = run_borrowed(options, console)
    finally:
        ray.shutdown()
    trials = [spent(trial, texts) for trial in ended[asked.every // 2 :: asked.every]]
    os.environ.update(workers.KEEP_MEMORY)
    workers.connect(None, dashboard=False)
    try:
        theirs_s, theirs = run_ordinary(trials, TokenRule.load(ModelSource()).context)
    finally:
        ray.shutdown()
    mean_positions = statistics.fmean(trial.user_attrs["positions"] for trial in ended)
    trial_s = theirs_s / len(trials)
    load_s, work_s = (statistics.fmean(each[name] for each in theirs) for name in ("load_s", "work_s"))
    num_cpus = os.cpu_count() or 1
    figures = {
        "trials": {"borrowed": len(ended), "ordinary": len(trials)},
        "corpus": asked.corpus,
        "texts": len(texts),
        "stopped": sum(trial.state is optuna.trial.TrialState.PRUNED for trial in ended),
        "positions_a_trial": {"borrowed": mean_positions, "ordinary": statistics.fmean(t["positions"] for t in theirs)},
        "ordinary_s": theirs_s,
        "ordinary_trial_core_s": {"load": load_s, "work": work_s, "process": num_cpus * trial_s - load_s - work_s},
        "borrowed_s": ours_s,
        "borrowed_without_load_s": warm_s,
        "ratio": trial_s / (ours_s / len(ended)),
        "ratio_without_load": trial_s / (warm_s / len(ended)),
        "ratio_if_loading_were_free": work_s / num_cpus / (warm_s / len(ended)),
        "modelled_7b": modelled(
            mean_positions, statistics.fmean(max(dict(t.user_attrs["costs"]).values()) for t in ended), len(ended)
        ),
    }
    path = ROOT / "bench" / "results" / f"borrowed_trials_{asked.corpus}_{asked.texts}.json"
    path.write_text(json.dumps(figures, indent=1) + "\n")
    console.print_json(data=figures)


if __name__ == "__main__":
    main()
