"""Trials an hour: slots borrowed from resident models, against one actor a trial that loads its own.

    python -m bench.borrowed_trials              # 12 trials both ways, in one run, on an otherwise idle machine

The same recipes on the same texts, both under Ray Tune, both verified by vLLM, nothing stopped early. The ordinary way
is what a Ray Tune user writes first: a trainable that loads the model and the verifying engine, solves its texts in one
table and decodes them. It gets one processor a trial, so as many trials as processors run at once. Ours is what
`verbatim tune` does. Both clocks run from Ray being up to the last trial's end, so ours holds its one load too.
Writes bench/results/borrowed_trials.json.
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
from optuna.trial import TrialState
from ray import tune
from rich.console import Console

from engine.frozen_lm import FrozenLM, ModelSource, TokenRule
from engine.recipe import Recipe, load_recipe
from engine.slots import Job
from engine.solver import Solver
from orchestrator import fleet
from orchestrator.verifier import Candidate
from orchestrator.verifier_actor import EngineSpec, make_verifier
from tune_spaces.objective import OBJECTIVES
from tune_spaces.spaces import preset, space
from tune_spaces.study import open_study
from tune_spaces.tuning import TUNE_SETTINGS, TuneOptions, open_pool, require_sound, run_trials

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "borrowed_trials.json"
BASE = load_recipe(None, ["attempts=1"])
BUDGET = 100.0
"""Passes over a text."""

SETTINGS = preset("quick", texts=16, hold_out=0, budget=BUDGET, sampler="random", stopping="none")
CORPUS = ROOT / "corpora" / "demo.parquet"


def ordinary_trial(config: dict[str, Any], *, jobs: list[Job], token_budget: int, context: int) -> None:
    """A trial that owns its models."""
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    lm = FrozenLM.load(ModelSource())
    solver = Solver(lm, token_budget=token_budget)
    verifier = make_verifier(EngineSpec("vllm", ModelSource().path, None, "float32", context))
    loaded = time.monotonic()
    recipe = Recipe.model_validate_json(config["recipe"])
    attempts = solver.solve([replace(job, recipe=recipe, budget=BUDGET * job.num_positions) for job in jobs])
    solved = [attempt for attempt in attempts if attempt.is_candidate]
    verdicts = verifier.judge([Candidate(a.job.target.id, a.prompt_KD.numpy(), a.job.target.token_ids) for a in solved])
    exact = {verdict.id for verdict in verdicts if verdict.exact}
    costs = [a.tokens / a.job.num_positions if a.job.target.id in exact else BUDGET for a in attempts]
    ended = time.monotonic()
    tune.report(
        {"cost": statistics.fmean(min(cost, BUDGET) for cost in costs), "load_s": loaded - started,
         "work_s": ended - loaded}
    )  # fmt: skip


def run_ordinary(recipes: list[str], jobs: list[Job], token_budget: int, context: int) -> tuple[float, list[dict]]:
    """Seconds for all trials, and what each reported."""
    os.environ.update(TUNE_SETTINGS)
    started = time.monotonic()
    trainable = tune.with_parameters(ordinary_trial, jobs=jobs, token_budget=token_budget, context=context)
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"recipe": tune.grid_search(recipes)},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    assert not results.errors, results.errors
    return time.monotonic() - started, [result.metrics for result in results]


def run_borrowed(options: TuneOptions, params: list[dict], console: Console) -> tuple[float, float, list[dict], Any]:
    """Seconds with the one load, seconds without it, what each trial came to, and the pool's texts."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        opened = open_pool(options, require_sound(options), Path(folder) / "outcomes.jsonl", console)
        study = open_study(Path(folder), "borrowed", OBJECTIVES["cost"], sampler="random", seed=0, pairs_texts=False)
        for each in params:
            study.enqueue_trial(each)
        loaded = time.monotonic()
        run_trials(options, study, opened, console)
        ended = time.monotonic()
        trials = study.get_trials(states=(TrialState.COMPLETE,))
    return ended - started, ended - loaded, [trial.user_attrs for trial in trials], opened.sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(logging.WARNING)
    console = Console()
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [drawn.ask() for _ in range(asked.trials)]
    recipes = [space("quick").draw(trial, BASE).model_dump_json() for trial in trials]
    settings = SETTINGS.model_copy(update={"trials": asked.trials})
    options = TuneOptions(CORPUS, ROOT / "borrowed", settings, space("quick"), BASE)
    fleet.connect(None, dashboard=False)
    try:
        ours_s, warm_s, ours, sample = run_borrowed(options, [trial.params for trial in trials], console)
    finally:
        ray.shutdown()
    fleet.connect(None, dashboard=False)
    try:
        context = TokenRule.load(ModelSource()).context
        theirs_s, theirs = run_ordinary(recipes, sample.tune, 1536, context)
    finally:
        ray.shutdown()
    figures = {
        "trials": asked.trials,
        "texts": len(sample.tune),
        "ordinary_s": theirs_s,
        "ordinary_load_s": statistics.median(each["load_s"] for each in theirs),
        "ordinary_work_s": statistics.median(each["work_s"] for each in theirs),
        "borrowed_s": ours_s,
        "borrowed_without_load_s": warm_s,
        "ratio": theirs_s / ours_s,
        "ratio_without_load": theirs_s / warm_s,
        "largest_difference_in_cost": max(
            abs(a - b)
            for a, b in zip(sorted(each["cost"] for each in ours), sorted(each["cost"] for each in theirs), strict=True)
        ),
    }
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    console.print_json(data=figures)


if __name__ == "__main__":
    main()
