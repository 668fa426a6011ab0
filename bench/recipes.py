"""Which loss, order p and learning rate solve most texts in the fewest steps?

    python bench/recipes.py --texts 24 --max-steps 300

All recipes run side by side as slots of one solver, on the same texts with the same K, so the comparison is paired
and the machine's noise does not enter: steps and forward-backward positions are counted, not seconds.
Writes bench/results/recipes-DATE.json and prints the table.
"""

import argparse
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import torch

from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target, make_target

ROOT = Path(__file__).parent.parent

RECIPES: dict[str, list[str]] = {
    "cross_entropy lr 2": ["loss.name=cross_entropy", "optim.lr=2"],
    "squared_hinge lr 2": ["loss.name=squared_hinge", "optim.lr=2"],
    "squared_hinge lr 2, constant": ["loss.name=squared_hinge", "optim.lr=2", "optim.decay=constant"],
    "violation_norm p 2": ["loss.p=2", "optim.lr=2"],
    "violation_norm p 2, margin 2": ["loss.p=2", "optim.lr=2", "loss.margin=2"],
    "violation_norm p 2, margin 4": ["loss.p=2", "optim.lr=2", "loss.margin=4"],
    "violation_norm p 3, margin 2": ["loss.p=3", "optim.lr=2", "loss.margin=2"],
    "violation_norm p 2, lr 1": ["loss.p=2", "optim.lr=1"],
    "violation_norm p 4, lr 1": ["loss.p=4", "optim.lr=1"],
    "violation_norm p 4": ["loss.p=4", "optim.lr=2"],
    "violation_norm p 4, lr 4": ["loss.p=4", "optim.lr=4"],
    "violation_norm p 6": ["loss.p=6", "optim.lr=2"],
    "violation_norm p 6, lr 4": ["loss.p=6", "optim.lr=4"],
    "violation_norm p 4, lr 4, constant": ["loss.p=4", "optim.lr=4", "optim.decay=constant"],
    "violation_norm p 4, margin 2": ["loss.p=4", "optim.lr=2", "loss.margin=2"],
    "violation_norm p 4, random start": ["loss.p=4", "optim.lr=2", "start.name=random"],
    "violation_norm p 4, betas 0.9": ["loss.p=4", "optim.lr=2", "optim.beta1=0.9"],
}


def pick_targets(lm: FrozenLM, num_texts: int) -> list[Target]:
    """Every n-th sentence of english_1k, so that all lengths are there."""
    rows = pq.read_table(ROOT / "corpora" / "english_1k.parquet").to_pylist()
    chosen = rows[:: len(rows) // num_texts][:num_texts]
    targets = [make_target(lm.tokens, row["id"], row["text"]) for row in chosen]
    return [target for target in targets if isinstance(target, Target)]


def row_of(name: str, recipe: Recipe, attempts: list[Attempt]) -> dict:
    """Figures of one recipe; unsolved texts count with all their steps."""
    solved = [a for a in attempts if a.is_candidate]
    return {
        "recipe": name,
        "texts": len(attempts),
        "solved": len(solved),
        "mean_steps": round(sum(a.steps for a in attempts) / len(attempts), 1),
        "mean_positions": round(sum(a.tokens for a in attempts) / len(attempts)),
        "hash": recipe.hash,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--tokens-per-vector", type=float, default=2.0)
    parser.add_argument("--only", default="", help="run the recipes whose name holds this")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="added to every recipe")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lm = FrozenLM.load(ModelSource(args.model))
    targets = pick_targets(lm, args.texts)
    recipes = {
        name: load_recipe(None, [*sets, f"max_steps={args.max_steps}", *args.set])
        for name, sets in RECIPES.items()
        if args.only in name
    }
    jobs = [
        Job(target, recipe, math.ceil(len(target.token_ids) / args.tokens_per_vector))
        for target in targets
        for recipe in recipes.values()
    ]
    by_hash: dict[str, list[Attempt]] = {}
    for attempt in Solver(lm, token_budget=2048).solve(jobs):
        by_hash.setdefault(attempt.job.recipe.hash, []).append(attempt)
    rows = [row_of(name, recipe, by_hash[recipe.hash]) for name, recipe in recipes.items()]
    for row in sorted(rows, key=lambda row: row["mean_positions"]):
        print(f"{row['recipe']:<40} {row['solved']:>3}/{row['texts']}  steps {row['mean_steps']:>6}  "
              f"positions {row['mean_positions']:>7}")  # fmt: skip
    record = {"model": lm.fingerprint, "args": vars(args), "torch": torch.__version__, "rows": rows}
    path = ROOT / "bench" / "results" / f"recipes-{datetime.now(UTC):%Y-%m-%d}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
