"""Which recipe brings most texts to the margin a run asks for, with the fewest positions, and at which rate?

    python -m bench.recipes --model pocket --texts 24 --tokens-per-vector 2 4 --rates 0.2 0.4 0.8

Owns: the candidates, what is counted. Must not know: verification.

All recipes run side by side as slots of one solver, on the same texts with the same K, so that the comparison is
paired and the machine's noise does not enter: steps and positions are counted, not seconds. An attempt that does not
reach `stop_margin` counts with all its work; `work` is a recipe's positions over the first one's, with 95 % from
2,000 resamplings of the texts. Prints the table and adds it to bench/results/recipes.json.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pyarrow.parquet as pq
import torch

from bench.capacity import ratio
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target, make_target

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "recipes.json"

ADAM = ["optim.name=adam", "optim.beta2=0.9"]

CANDIDATES: dict[str, tuple[str | None, list[str]]] = {
    "default": (None, []),
    "default without violations": (None, ["loss.patience=0"]),
    "default at temperature 1": (None, ["loss.temperature=1"]),
    "polyak, violation_norm": (None, ["loss.name=violation_norm"]),
    "adam, violation_mix": (None, ["loss.name=violation_mix", "loss.p=3", *ADAM, "optim.lr=0.7"]),
    "adam, cross_entropy": (None, [*ADAM, "optim.lr=0.7", "optim.beta1=0.5", "loss.patience=0"]),
    "adam, default's losses": (None, [*ADAM, "optim.lr=0.7"]),
    "per-sample cramming": ("per_sample_cramming", []),
}
"""Recipe file and settings by name."""


def pick_targets(lm: FrozenLM, corpus: str, num_texts: int, lengths: tuple[int, int]) -> list[Target]:
    """Every n-th text of a corpus that has so many tokens, so that all lengths are there."""
    rows = pq.read_table(ROOT / "corpora" / f"{corpus}.parquet").to_pylist()
    made = [make_target(lm.token_rule, str(row["id"]), row["text"]) for row in rows]
    fit = [t for t in made if isinstance(t, Target) and lengths[0] <= len(t.token_ids) <= lengths[1]]
    return fit[:: max(1, len(fit) // num_texts)][:num_texts]


def candidates(args: argparse.Namespace) -> Iterator[tuple[str, Recipe]]:
    """Each chosen recipe at its own rate, or at each of those asked for."""
    for name, (file, sets) in CANDIDATES.items():
        if name not in args.only:
            continue
        path = ROOT / "recipes" / f"{file}.toml" if file else None
        for rate in args.rates or [None]:
            given = [*sets, f"max_steps={args.max_steps}", *([] if rate is None else [f"optim.lr={rate}"]), *args.set]
            yield name if rate is None else f"{name}, rate {rate:g}", load_recipe(path, given)


def row_of(name: str, attempts: list[Attempt], firsts: list[Attempt]) -> dict:
    """Figures of one recipe, beside those of the first one's attempts at the same texts in the same order."""
    work, low, high = ratio([a.positions for a in attempts], [a.positions for a in firsts])
    return {
        "recipe": name,
        "work": round(work, 3),
        "work_interval": [round(low, 3), round(high, 3)],
        "texts": len(attempts),
        "exact": sum(a.is_greedy for a in attempts),
        "with_margin": sum(a.has_margin for a in attempts),
        "mean_steps": round(fmean(a.steps for a in attempts), 1),
        "mean_positions": round(fmean(a.positions for a in attempts)),
    }


def compare(lm: FrozenLM, targets: list[Target], recipes: dict[str, Recipe], tokens_per_vector: float) -> list[dict]:
    """A row for every recipe, the cheapest first."""
    jobs = [
        replace(Job(target, recipe, math.ceil(len(target.token_ids) / tokens_per_vector)), owner=name)
        for target in targets
        for name, recipe in recipes.items()
    ]
    ended = Solver(lm, table_positions=2048).solve(jobs)
    by_place = {(attempt.job.owner, attempt.job.target.id): attempt for attempt in ended}
    by_name = {name: [by_place[name, target.id] for target in targets] for name in recipes}
    firsts = next(iter(by_name.values()))
    rows = [row_of(name, attempts, firsts) for name, attempts in by_name.items()]
    return sorted(rows, key=lambda row: (-row["with_margin"], row["mean_positions"]))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--corpus", default="demo", help="a file of corpora/")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--lengths", type=int, nargs=2, default=(1, 64), help="fewest and most tokens")
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--tokens-per-vector", type=float, nargs="+", default=[2.0])
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="tried with each recipe")
    parser.add_argument("--only", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES), metavar="RECIPE")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="added to every recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    lm = FrozenLM.load(ModelSource(args.model))
    targets = pick_targets(lm, args.corpus, args.texts, tuple(args.lengths))
    recipes = dict(candidates(args))
    records = json.loads(args.out.read_text()) if args.out.exists() else []
    for tokens in args.tokens_per_vector:
        rows = compare(lm, targets, recipes, tokens)
        print(f"{args.model}, {len(targets)} texts of {args.corpus}, a vector for {tokens:g} tokens")
        for row in rows:
            print(f"  {row['recipe']:<34} margin {row['with_margin']:>3}  exact {row['exact']:>3}  "
                  f"steps {row['mean_steps']:>6}  positions {row['mean_positions']:>7}  "
                  f"x {row['work']:.2f} {row['work_interval']}", flush=True)  # fmt: skip
        told = {key: value for key, value in vars(args).items() if key not in ("tokens_per_vector", "threads", "out")}
        told["model"] = Path(args.model).name
        records.append({"fingerprint": lm.fingerprint, "tokens_per_vector": tokens, **told, "rows": rows})
    args.out.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
