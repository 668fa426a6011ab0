"""Is a text better tried once for long, several times for less, or by several siblings at once, at equal work?

    python -m bench.populations --model pocket --tokens-per-vector 4 12 16 --minutes 20
    python -m bench.populations --model pocket --minutes 2 --device cuda --table 16384 --out FILE

Owns: the ways, equal budgets, what is counted. Must not know: Ray, vLLM, Parquet, verification.

Every way gets the same positions for the same text with the same K: attempts follow one another until one has reached
`stop_margin` or the budget is spent, and the work of all siblings is charged. Texts are taken in one order for as long
as `--minutes` allow; counted are those before the first that some way had not finished, so that all ways are judged on
the same texts. Positions are counted, not seconds. Intervals: 95 %, from 2,000 resamplings of the texts.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from bench.english import targets
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "populations.json"
BASE = "one attempt"

MEMBERS = (
    "portfolio=[{name='default'}, {name='worst position first', set={loss={name='violation_norm'}}}, "
    "{name='Adam', set={optim={name='adam', lr=0.4, beta1=0.5, beta2=0.9}}}, "
    "{name='another start', set={start={name='vocabulary', scale=2}}}]"
)

WAYS: dict[str, tuple[float, tuple[str, ...]]] = {
    BASE: (1.0, ()),
    "restarts, a half": (0.5, ()),
    "restarts, a quarter": (0.25, ()),
    "restarts, an eighth": (0.125, ()),
    "4 side by side": (0.25, ("siblings=4",)),
    "4, halved": (0.25, ("siblings=4", "population.cull_after=16")),
    "8, halved": (0.25, ("siblings=8", "population.cull_after=8")),
    "4, halved late": (0.25, ("siblings=4", "population.cull_after=32")),
    "4, renewed from the best": (0.25, ("siblings=4", "population.cull_after=16", "population.renewal=noise")),
    "4, recombined": (0.25, ("siblings=4", "population.cull_after=16", "population.renewal=recombine")),
    "members in turn, a quarter": (0.25, (MEMBERS,)),
    "4 members, halved": (0.25, ("siblings=4", "population.cull_after=16", MEMBERS)),
}
"""Share of the budget's steps that a sibling may take in one attempt, and settings, by name."""

RESAMPLINGS = 2000


@dataclass
class Case:
    """One text at one K by one way.

    Attributes:
        ratio: tokens per vector.
        budget: positions.
        spent: so far.
    """

    way: str
    ratio: float
    place: int
    budget: float
    spent: float = 0.0
    num_attempts: int = 0
    is_solved: bool = False
    has_ended: bool = False
    winners: list[int] = field(default_factory=list)

    def follow(self, attempt: Attempt) -> Job | None:
        """Take an attempt down; the next one, or None where this was the last."""
        job = attempt.job
        self.spent += attempt.positions
        self.num_attempts += 1
        self.is_solved = attempt.has_margin
        self.has_ended = self.is_solved or self.budget - self.spent < job.num_positions * job.recipe.siblings
        if self.is_solved:
            self.winners = [job.member + attempt.sibling]
        left = self.budget - self.spent
        member = job.member + job.recipe.siblings
        return None if self.has_ended else replace(job, attempt=job.attempt + 1, member=member, budget=left)


def recipes(ways: list[str], passes: int, settings: list[str]) -> dict[str, Recipe]:
    """Of each way, for budgets of so many passes over a text."""
    return {
        way: load_recipe(None, [f"max_steps={max(1, round(WAYS[way][0] * passes))}", *WAYS[way][1], *settings])
        for way in ways
    }


class Comparison:
    """All ways on one text after the other, in one table.

    Args:
        table: read positions in the solver's table at once.
        passes: over a text with its vectors, what each way may spend on it.
    """

    def __init__(self, lm: FrozenLM, by_way: dict[str, Recipe], ratios: list[float], *, table: int, passes: int):
        self._solver = Solver(lm, table_positions=table)
        self._by_way, self._ratios, self._passes = by_way, ratios, passes
        self.cases: dict[str, Case] = {}

    def run(self, texts: list[Target], seconds: float, tell: Callable[[int], None]) -> list[Case]:
        """The cases of the texts before the first unfinished one, when all is done or the time is over."""
        ends, waiting = time.monotonic() + seconds, list(enumerate(texts))[::-1]
        while time.monotonic() < ends:
            # A text at a time: what follows an attempt must not wait behind all texts.
            if waiting and not self._solver.waiting:
                self._submit(*waiting.pop())
            if self._solver.is_idle and not waiting:
                break
            for attempt in self._solver.step():
                if (job := self.cases[attempt.job.owner].follow(attempt)) is not None:
                    self._solver.submit(job)
            tell(self._solver.num_steps)
        return self._finished()

    def _submit(self, place: int, target: Target) -> None:
        for ratio in self._ratios:
            num_vectors = max(1, round(len(target.token_ids) / ratio))
            for way, recipe in self._by_way.items():
                job = Job(target, recipe, num_vectors, owner=f"{place}/{ratio:g}/{way}")
                case = Case(way, ratio, place, budget=float(self._passes * job.num_positions))
                self.cases[job.owner] = case
                self._solver.submit(replace(job, budget=case.budget))

    def _finished(self) -> list[Case]:
        first = min((case.place for case in self.cases.values() if not case.has_ended), default=math.inf)
        return [case for case in self.cases.values() if case.place < first]

    @property
    def num_finished(self) -> int:
        return len({case.place for case in self._finished()})


def interval(numbers_R: np.ndarray) -> list[float]:
    """The middle 95 %."""
    return [round(float(q), 3) for q in np.nanpercentile(numbers_R, (2.5, 97.5))]


def summary(cases: list[Case], ratios: list[float], ways: list[str], passes: int) -> list[dict[str, Any]]:
    """A row a ratio and way: share solved, work, and both beside one long attempt's, with intervals.

    N texts, R resamplings.
    """
    rows = []
    for ratio in ratios:
        mine = {way: [c for c in cases if (c.ratio, c.way) == (ratio, way)] for way in ways}
        count = len(mine[ways[0]])
        if not count:
            continue
        chosen_RN = np.random.default_rng(0).integers(0, count, (RESAMPLINGS, count))
        solved = {way: np.array([c.is_solved for c in own], dtype=float) for way, own in mine.items()}
        work = {way: np.array([c.spent / c.budget * passes for c in own]) for way, own in mine.items()}
        for way in ways:
            share_R, mean_R = solved[way][chosen_RN].mean(1), work[way][chosen_RN].mean(1)
            more_R = share_R - solved[BASE][chosen_RN].mean(1)
            ratio_R = mean_R / work[BASE][chosen_RN].mean(1)
            rows.append({
                "tokens_per_vector": ratio, "way": way, "texts": count,
                "solved": int(solved[way].sum()), "solved_share": interval(share_R),
                "mean_passes": round(float(work[way].mean()), 1), "mean_passes_interval": interval(mean_R),
                "median_passes": round(float(np.median(work[way])), 1),
                "more_solved": round(float(solved[way].mean() - solved[BASE].mean()), 3),
                "more_solved_interval": interval(more_R),
                "work_ratio": round(float(work[way].mean() / work[BASE].mean()), 3),
                "work_ratio_interval": interval(ratio_R),
                "attempts": round(float(np.mean([c.num_attempts for c in mine[way]])), 2),
                "winners": np.bincount([w % 4 for c in mine[way] for w in c.winners], minlength=4).tolist(),
            })  # fmt: skip
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(
            f"{row['tokens_per_vector']:>5g} {row['way']:<28} {row['solved']:>4} of {row['texts']:<4} "
            f"{row['more_solved']:+.3f} {row['more_solved_interval']}  passes {row['mean_passes']:>6} "
            f"x {row['work_ratio']:.2f} {row['work_ratio_interval']}",
            flush=True,
        )


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a name, or a model's folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="for the solver; loading comes on top")
    parser.add_argument("--texts", type=int, default=10_000, help="most texts")
    parser.add_argument("--lengths", type=int, nargs=2, default=(12, 28), help="fewest and most tokens")
    parser.add_argument("--tokens-per-vector", type=float, nargs="+", default=[4.0, 12.0, 16.0])
    parser.add_argument("--passes", type=int, default=400, help="over a text with its vectors: the budget of every way")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--table", type=int, default=2048, help="positions in the solver's table")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="added to every way's recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, help="a file of its own, instead of an entry in bench/results/populations.json"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    lm = FrozenLM.load(ModelSource(args.model), device=args.device)
    ways = list(dict.fromkeys([BASE, *args.ways]))
    texts = targets(lm.token_rule, tuple(args.lengths), args.texts)
    by_way = recipes(ways, args.passes, args.set)
    comparison = Comparison(lm, by_way, args.tokens_per_vector, table=args.table, passes=args.passes)
    began = time.monotonic()

    def tell(step: int) -> None:
        if step % 100 == 0:
            print(f"{time.monotonic() - began:.0f} s, step {step}, texts {comparison.num_finished}", flush=True)

    cases = comparison.run(texts, 60 * args.minutes, tell)
    rows = summary(cases, args.tokens_per_vector, ways, args.passes)
    show(rows)
    keep(args, lm, rows, cases)


def keep(args: argparse.Namespace, lm: FrozenLM, rows: list[dict[str, Any]], cases: list[Case]) -> None:
    """Into a file of its own, or among the results in place of the entry for the same model, device and settings."""
    told: dict[str, Any] = {
        "model": Path(args.model).name, "fingerprint": lm.fingerprint, "passes": args.passes,
        "lengths": list(args.lengths), "set": args.set,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip
    record = told | {
        "rows": rows,
        "cases": [
            [c.place, c.ratio, c.way, round(c.spent / c.budget * args.passes, 1), int(c.is_solved), c.winners]
            for c in cases
        ],
    }
    if args.out:
        args.out.write_text(json.dumps(record) + "\n")
        return
    records = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    records = [r for r in records if any(r[key] != value for key, value in told.items())]
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(r) for r in [*records, record]) + "\n]\n")


if __name__ == "__main__":
    main()
