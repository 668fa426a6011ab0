"""Does a search find its way back from a bad default?

    python -m bench.recovery                # three plants, three seeds, 40 trials each

The base recipe is spoilt: the rate 30 times too high, 30 times too low, or too low with cross-entropy for a loss. A
search over the quick space starts there, 40 trials on 8 texts, seeds apart. Its winner is put beside the good default,
which the search never saw, on the texts it searched with and on 32 others. Costs are passes over a text to a verified
exact text, so they do not depend on the machine's speed. All searches share one pool of resident models.
Writes bench/results/recovery.json.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import optuna
import ray
from rich.console import Console

from engine.recipe import Recipe, load_recipe
from orchestrator.fleet import workers
from orchestrator.pool.outcome import Outcome
from tune_spaces.hold_out import compare
from tune_spaces.objective import OBJECTIVES, figures
from tune_spaces.opened import Opened, open_pool
from tune_spaces.options import TuneOptions
from tune_spaces.spaces import preset, space
from tune_spaces.study import ended_trials, open_study, winner
from tune_spaces.tuning import prepare, require_sound, run_trials

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "recovery.json"
PLANTS = {
    "rate 30 times too high": ["optim.lr=21"],
    "rate 30 times too low": ["optim.lr=0.0233"],
    "wrong loss, rate 30 times too low": ["loss.name=cross_entropy", "optim.lr=0.0233"],
}
GOOD = Recipe()


def cost_of(outcomes: Sequence[Outcome]) -> float:
    """Passes a text."""
    return cast(float, figures(outcomes)["cost"])


def recover(plant: str, seed: int, options: TuneOptions, opened: Opened, console: Console) -> dict[str, Any]:
    """One search from a spoilt base, and what its winner costs beside the good default."""
    options = replace(options, base=load_recipe(None, PLANTS[plant]), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(
            Path(folder), f"recovery-{seed}", OBJECTIVES["cost"], sampler=options.settings.sampler, seed=seed
        )
        prepare(study, options, console)
        run_trials(options, study, opened, console)
        best = winner(study)
        ended = ended_trials(study)
    assert best is not None, "some trial is complete"
    recipe = Recipe.model_validate_json(best.user_attrs["recipe"])
    sample = opened.sample
    ours, theirs = (cost_of(workers.get(opened.solve(each, sample.tune))) for each in (recipe, GOOD))
    held_out = compare(*(workers.get(opened.solve(each, sample.hold_out)) for each in (recipe, GOOD)))
    planted = figures(workers.get(opened.solve(options.base, sample.tune)))
    return {
        "plant": plant,
        "seed": seed,
        "planted": {key: planted[key] for key in ("cost", "exact_frac")},
        "winner": ours,
        "good": theirs,
        "ratio": ours / theirs,
        "held_out": {"ratio": held_out.ratio, "low": held_out.low, "high": held_out.high},
        "trial": best.number,
        "stopped": sum(trial.state is optuna.trial.TrialState.PRUNED for trial in ended),
        "trials": len(ended),
        "params": best.params,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--engine", default="vllm")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(logging.WARNING)
    settings = preset("quick", trials=asked.trials, texts=8, hold_out=32)
    corpus = ROOT / "corpora" / "english_1k.parquet"
    options = TuneOptions(corpus, ROOT / "recovery", settings, space("quick"), GOOD, engine=asked.engine)
    console = Console()
    rows = []
    workers.connect(None, dashboard=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            options = replace(options, out=Path(folder))
            opened = open_pool(options, require_sound(options), console)
            for plant in PLANTS:
                for seed in range(asked.seeds):
                    rows.append(recover(plant, seed, options, opened, console))
                    console.print_json(data=rows[-1])
                    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
