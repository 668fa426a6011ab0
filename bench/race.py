"""How often the race of a search stops what it should not, and what it saves: Wilcoxon's test on real costs.

    python -m bench.race

A search stops a trial that loses, text by text, to the best one so far (`tune_spaces.stopping.loses`), looked at while
its texts go on. Here 32 recipes that differ by next to nothing (rate within 5 %, momentum within 0.02 of the default)
solve 16 texts of the demo each; their costs in passes are then raced many times over, in the order in which a search
takes its texts. Each race: the best of some of them, and another one, its costs changed as the row says.
Writes bench/results/race.json; costs that are there already are raced anew.
"""

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import optuna
import pyarrow.parquet as pq
import torch

from engine.capacity import VectorPlan
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target, make_target
from tune_spaces.sample import Sample
from tune_spaces.stopping import loses

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "race.json"
PLAN = VectorPlan(((8, 4), (32, 16)))
"""What the calibration of the embedded model comes to for the default recipe."""

BUDGET = 150.0
LOOK_PASSES = 4.0
"""Passes between two looks at a trial: what a search does in a quarter of a second, about."""

LUCK = 0.3
"""Standard deviation of the logarithm by which a text's cost differs between recipes that are unlike. Assumption."""

Costs = dict[str, float]


def recipes(number: int, dice: random.Random) -> list[Recipe]:
    """The default, and neighbours of it."""
    near = [
        load_recipe(None, [f"optim.lr={dice.uniform(0.95, 1.05)}", f"optim.beta1={dice.uniform(0.68, 0.72)}"])
        for _ in range(number - 1)
    ]
    return [Recipe(), *near]


def costs_of(lm: FrozenLM, texts: list[Target], recipe: Recipe) -> Costs:
    """Passes to a certified text, the budget where it never came."""
    jobs = [Job(text, recipe, PLAN.num_vectors(len(text.token_ids), lm.token_rule.context)) for text in texts]
    ended = Solver(lm, table_positions=2048).solve(jobs)
    return {
        attempt.job.target.id: min(attempt.positions / attempt.job.num_positions, BUDGET)
        if attempt.is_candidate
        else BUDGET
        for attempt in ended
    }


def raced(mine: Costs, best: Costs, rungs: list[list[str]]) -> tuple[bool, float]:
    """Whether a trial is stopped, and the passes it took by then."""
    given: list[str] = []
    for rung in rungs:
        given += rung
        passes, longest = 0.0, max(mine[id] for id in rung)
        while True:
            so_far = {id: min(mine[id], passes) if id in rung else mine[id] for id in given}
            is_over = passes >= longest
            if not (is_over and len(given) == len(mine)) and loses(so_far, best):
                return True, sum(so_far.values())
            if is_over:
                break
            passes += LOOK_PASSES
    return False, sum(mine.values())


def scaled(factor: float) -> Callable[[Costs, list[str]], Costs]:
    """Costs all dearer, or cheaper, alike."""
    return lambda costs, order: {id: cost * factor for id, cost in costs.items()}


def better_on_dear(costs: Costs, order: list[str]) -> Costs:
    """An eighth worse on the cheaper half, a third better on the dearer: better in sum."""
    cheap = set(order[: len(order) // 2])
    return {id: cost * (1.125 if id in cheap else 0.67) for id, cost in costs.items()}


def unlike(factor: float) -> Callable[[Costs, list[str]], Costs]:
    """Text by text cheaper and dearer by luck, in sum what the factor says."""

    def change(costs: Costs, order: list[str]) -> Costs:
        dice = random.Random(str(sorted(costs.items())))
        lucky = {id: cost * math.exp(dice.gauss(0, LUCK)) for id, cost in costs.items()}
        to_sum = factor * sum(costs.values()) / sum(lucky.values())
        return {id: cost * to_sum for id, cost in lucky.items()}

    return change


CHANGES = {
    "equal": scaled(1.0),
    "equal in sum, unlike text by text": unlike(1.0),
    "a tenth better in sum, unlike text by text": unlike(0.9),
    "a fifth better in sum, unlike text by text": unlike(0.8),
    "a tenth better": scaled(0.9),
    "a fifth better": scaled(0.8),
    "better on dear texts, worse on cheap ones": better_on_dear,
    "half again as dear": scaled(1.5),
    "three times as dear": scaled(3.0),
}


def measure(table: list[Costs], orders: dict[str, Sample], num_races: int) -> list[dict]:
    """Share stopped, and work before that, of each change under each order against the best of 1, 10 and 39."""
    rows, order = [], [job.target.id for job in next(iter(orders.values())).tune]
    for name, change in CHANGES.items():
        for num_before in (1, 10, len(table) - 1):
            dice, stopped, work = random.Random(0), dict.fromkeys(orders, 0), {each: [] for each in orders}
            for _ in range(num_races):
                other, *before = dice.sample(table, num_before + 1)
                best = min(before, key=lambda costs: sum(costs.values()))
                mine = change(other, order)
                for each, sample in orders.items():
                    is_stopped, passes = raced(mine, best, sample.rungs)
                    stopped[each] += is_stopped
                    work[each].append(passes / sum(mine.values()))
            for each in orders:
                rows.append({
                    "trial": name, "best_of": num_before, "order": each, "stopped": stopped[each] / num_races,
                    "work": statistics.fmean(work[each]),
                })  # fmt: skip
                print(f"{name:<44} best of {num_before:>2}  {each:<26} stopped {rows[-1]['stopped']:4.0%}, "
                      f"work {rows[-1]['work']:4.0%}", flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=int, default=32)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--races", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lm, dice = FrozenLM.load(ModelSource()), random.Random(0)
    rows = dice.sample(pq.read_table(ROOT / "corpora" / "demo.parquet").to_pylist(), args.texts)
    made = [make_target(lm.token_rule, row["id"], row["text"]) for row in rows]
    texts = [target for target in made if isinstance(target, Target)]
    asked = {"model": lm.fingerprint, "default": Recipe().hash, "texts": len(texts), "recipes": args.recipes}
    kept = json.loads(args.out.read_text()) if args.out.exists() else {}
    if {name: kept.get(name) for name in asked} == asked:
        table = kept["costs"]
    else:
        table = [costs_of(lm, texts, recipe) for recipe in recipes(args.recipes, dice)]
    order = sorted(table[0], key=lambda id: table[0][id])
    plain = Sample([Job(text, Recipe(), 1) for text in texts], []).in_order(order)
    orders = {"the cheapest first": plain, "a dear one among the first": plain.in_order(order, dear=order[-1])}
    means = [statistics.fmean(costs.values()) for costs in table]
    record = asked | {
        "races": args.races, "luck": LUCK, "mean_passes": statistics.fmean(means),
        "spread_of_means": statistics.stdev(means), "costs": table,
    }  # fmt: skip
    print(f"{len(table)} recipes: {record['mean_passes']:.1f} passes a text, standard deviation of the means "
          f"{record['spread_of_means']:.2f}", flush=True)  # fmt: skip
    record["rows"] = measure(table, orders, args.races)
    args.out.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
