"""How long a text does K vectors hold: ours against per-sample and progressive cramming, at equal budgets.

    python -m bench.capacity
    python -m bench.capacity --model smollm2 --vectors 1 4 --texts 3
    python -m bench.capacity --vectors 1 4 --texts 10 --share 5 --set max_steps=100000

For K = 1, 4, 16 and 64 vectors and the same texts, every method may pass the same number of positions forward and
backward a text. Its figure is the longest prefix that greedy decoding would repeat exactly (the solver's certificate
over that prefix).
- ours, and progressive cramming, grow the prefix while it is exact and go on from the prompt they have;
- per-sample cramming trains one length from the start; it gets a quarter of the budget for each of four lengths, the
  next one longer after a success and half-way back after a failure.
Ratios of ours over another method are over the texts that both have.

Writes bench/results/capacity.json; a cell of the same recipe and at least as many texts is kept, so it can be stopped
and gone on with.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target, encode

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "capacity.json"
BUDGETS = {1: 4_000, 4: 8_000, 16: 20_000, 64: 60_000}
"""Positions a text, by K."""

LONGEST = {1: 32, 4: 64, 16: 128, 64: 320}
"""Tokens offered, by K: beyond what any method reached in trials."""

FIRST_TRY = {1: 4, 4: 8, 16: 24, 64: 96}
"""First length of per-sample cramming, about what it reached in trials."""

NUM_LENGTHS = 4
GROWING: dict[str, tuple[str, list[str]]] = {
    "ours": ("capacity.toml", []),
    "progressive cramming": ("progressive_cramming.toml", []),
}
METHODS = [*GROWING, "per-sample cramming"]


def pick_texts(lm: FrozenLM, num_texts: int) -> list[Target]:
    """The first tokens of running prose: sentences of english_1k put together until they are long enough."""
    rows = pq.read_table(ROOT / "corpora" / "english_1k.parquet").to_pylist()
    longest, targets, text = max(LONGEST.values()), [], ""
    for row in rows:
        text = f"{text} {row['text']}".strip()
        ids = encode(lm.token_rule, text)
        if len(ids) >= longest:
            targets.append(Target(f"prose-{len(targets)}", text, tuple(ids[:longest]), ends=False))
            text = ""
        if len(targets) == num_texts:
            break
    return targets


def cut(target: Target, num_tokens: int) -> Target:
    return Target(f"{target.id}/{num_tokens}", target.text, target.token_ids[:num_tokens], ends=False)


def recipe_of(file: str, sets: list[str], budget: int) -> Recipe:
    return load_recipe(ROOT / "recipes" / file, [*sets, f"max_positions={budget}", "stages=[]", "stop_margin=0.01"])


def grow(lm: FrozenLM, targets: list[Target], recipe: Recipe, num_vectors: int) -> list[int]:
    """Longest exact prefix of every text, grown within one attempt."""
    jobs = [Job(cut(target, LONGEST[num_vectors]), recipe, num_vectors) for target in targets]
    attempts = Solver(lm, table_positions=4096).solve(jobs)
    by_id = {attempt.job.target.id: attempt.prefix_tokens for attempt in attempts}
    return [by_id[job.target.id] for job in jobs]


def bisect(lm: FrozenLM, targets: list[Target], recipe: Recipe, num_vectors: int) -> list[int]:
    """Longest exact length of every text, each length trained from its own start."""
    solved = dict.fromkeys((target.id for target in targets), 0)
    failed = dict.fromkeys((target.id for target in targets), LONGEST[num_vectors] + 1)
    tried = dict.fromkeys((target.id for target in targets), FIRST_TRY[num_vectors])
    for _ in range(NUM_LENGTHS):
        jobs = {target.id: Job(cut(target, tried[target.id]), recipe, num_vectors) for target in targets}
        ended: dict[str, Attempt] = {}
        for attempt in Solver(lm, table_positions=4096).solve(list(jobs.values())):
            ended[attempt.job.target.id] = attempt
        for target in targets:
            mine, length = target.id, tried[target.id]
            attempt = ended[jobs[mine].target.id]
            solved[mine] = max(solved[mine], attempt.prefix_tokens)
            if attempt.exact_steps is None:
                failed[mine] = length
            longer = min(2 * length, (length + failed[mine]) // 2) if attempt.exact_steps is not None else 0
            tried[mine] = max(1, longer or (min(solved[mine], length) + length) // 2)
    return [solved[target.id] for target in targets]


def recipe_for(method: str, budget: int, sets: Sequence[str] = ()) -> Recipe:
    """Of one attempt: per-sample cramming makes one for each length."""
    if method in GROWING:
        file, own = GROWING[method]
        return recipe_of(file, [*own, *sets], budget)
    return recipe_of("per_sample_cramming.toml", [*sets], budget // NUM_LENGTHS)


def measured(
    lm: FrozenLM, targets: list[Target], method: str, num_vectors: int, budget: int, sets: Sequence[str] = ()
) -> dict[str, Any]:
    """One cell: the length of every text, in the texts' order."""
    recipe, find = recipe_for(method, budget, sets), grow if method in GROWING else bisect
    lengths = find(lm, targets, recipe, num_vectors)
    return {
        "method": method, "num_vectors": num_vectors, "budget": budget, "recipe": recipe.hash,
        "lengths": lengths, "mean": statistics.fmean(lengths), "least": min(lengths), "most": max(lengths),
    }  # fmt: skip


def cell_name(method: str, num_vectors: int, args: argparse.Namespace) -> str:
    """What was measured: another budget or another recipe is another cell."""
    share = [] if args.share == 1 else [f"{args.share:g} of the positions"]
    return ", ".join([method, f"K = {num_vectors}", *share, *args.set])


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Sum over theirs on the texts that both have, and a 95 % interval: pairs of texts resampled."""
    num = min(len(ours), len(theirs))
    pairs_N2 = np.array([ours[:num], theirs[:num]]).T
    drawn_R2 = pairs_N2[np.random.default_rng(0).integers(0, num, (2000, num))].sum(1)
    low, high = np.percentile(drawn_R2[:, 0] / drawn_R2[:, 1].clip(min=1), (2.5, 97.5))
    return float(pairs_N2[:, 0].sum() / max(1, pairs_N2[:, 1].sum())), float(low), float(high)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a name, or a model's folder")
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vectors", type=int, nargs="*", default=list(BUDGETS))
    parser.add_argument("--share", type=float, default=1.0, help="of the positions a text, less for a large model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every method's recipe")
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    lm = FrozenLM.load(ModelSource(args.model))
    targets = pick_texts(lm, args.texts)
    record = json.loads(args.out.read_text()) if args.out.exists() else {}
    mine = record.get(args.model, {})
    if mine.get("fingerprint") != lm.fingerprint:
        mine = {"fingerprint": lm.fingerprint, "torch": torch.__version__, "cells": {}}
    record[args.model], cells = mine, mine["cells"]
    for num_vectors in args.vectors:
        for method in args.methods:
            cell, budget = cell_name(method, num_vectors, args), round(args.share * BUDGETS[num_vectors])
            kept = cells.get(cell)
            is_same = kept and kept["recipe"] == recipe_for(method, budget, args.set).hash
            if is_same and len(kept["lengths"]) >= len(targets):
                continue
            started = time.monotonic()
            cells[cell] = made = measured(lm, targets, method, num_vectors, budget, args.set)
            args.out.write_text(json.dumps(record) + "\n")
            print(f"{cell:<32} mean {made['mean']:6.1f} tokens ({made['least']} to {made['most']}), "
                  f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    for num_vectors in args.vectors:
        own, *others = (cells.get(cell_name(method, num_vectors, args)) for method in METHODS)
        for other in filter(None, others if own else []):
            print("K = {}: {:.2f} ({:.2f} to {:.2f}) times {}".format(
                num_vectors, *ratio(own["lengths"], other["lengths"]), other["method"]))  # fmt: skip


if __name__ == "__main__":
    main()
