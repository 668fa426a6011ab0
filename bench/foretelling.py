"""What tells early which of several attempts at a text will be certified first?

    python -m bench.foretelling --model pocket --minutes 10
    python -m bench.foretelling --model pocket --minutes 1 --device cuda --table 16384 --out FILE

Every text is attempted several times with streams of their own, each to its end. For every pair of attempts at a text
of which one was certified before the other, and that both still ran at a look, each measure says which is ahead, and
how often it was right is counted. 0.5 is a coin. Texts are taken in one order; counted are those before the first
unfinished one.

Owns: the measures, the pairs. Must not know: Ray, vLLM, Parquet.
"""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.english import targets
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver

RESULTS = Path(__file__).parent / "results" / "foretelling.json"
LOOKS = (8, 16, 24, 32, 48, 64)

MEASURES: dict[str, Callable[[np.ndarray], tuple[float, ...]]] = {
    "exact prefix": lambda margin_T: (np.cumprod(margin_T > 0).sum(),),
    "tokens right": lambda margin_T: ((margin_T > 0).sum(),),
    "prefix, right, margin": lambda m_T: (np.cumprod(m_T > 0).sum(), (m_T > 0).sum(), m_T.min()),
    "smallest margin": lambda margin_T: (margin_T.min(),),
    "mean violation": lambda margin_T: (-np.maximum(0, 0.5 - margin_T).mean(),),
    "violations to the fourth": lambda margin_T: (-(np.maximum(0, 0.5 - margin_T) ** 4).mean(),),
}
"""Of margins of one measurement, logits, (T,); what is ahead is larger."""


class Watched:
    """Attempts by text, with their margins at the looks."""

    def __init__(self, solver: Solver):
        self.looks: dict[str, dict[int, np.ndarray]] = {}
        self.ended: dict[str, list[tuple[str, float]]] = {}
        solver.on_measured = self._see

    def _see(self, slot: Any, margin_T: torch.Tensor) -> None:
        if slot.age in LOOKS:
            self.looks.setdefault(slot.job.key, {})[slot.age] = margin_T.numpy().copy()

    def end(self, attempt: Attempt) -> None:
        """Take down after how many steps it was certified."""
        ended = self.ended.setdefault(_case(attempt.job), [])
        ended.append((attempt.job.key, attempt.steps if attempt.has_margin else math.inf))

    def finished(self, cases: list[str], counts: Mapping[str, int]) -> list[str]:
        """The cases before the first whose attempts have not all ended."""
        number = next((n for n, case in enumerate(cases) if len(self.ended.get(case, ())) < counts[case]), len(cases))
        return cases[:number]


def _case(job: Job) -> str:
    """A text at one K."""
    return f"{job.target.id} at {job.num_vectors}"


def right(watched: Watched, cases: list[str]) -> list[dict[str, Any]]:
    """How often each measure was right at each look; a tie is half a time."""
    rows = []
    for look in LOOKS:
        scores: dict[str, list[float]] = {name: [] for name in MEASURES}
        for case in cases:
            for (a, a_steps), (b, b_steps) in combinations(watched.ended[case], 2):
                seen = [watched.looks.get(key, {}).get(look) for key in (a, b)]
                if a_steps == b_steps or seen[0] is None or seen[1] is None:
                    continue
                for measure, value in MEASURES.items():
                    ours, theirs = value(seen[0]), value(seen[1])
                    is_right = (ours > theirs) == (a_steps < b_steps)
                    scores[measure].append(0.5 if ours == theirs else float(is_right))
        pairs = len(scores["smallest margin"])
        told = {measure: round(float(np.mean(own)), 3) for measure, own in scores.items() if own}
        rows.append({"step": look, "pairs": pairs, "right": told})
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a name, or a model's folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--texts", type=int, default=10_000, help="most texts")
    parser.add_argument("--lengths", type=int, nargs=2, default=(12, 28), help="fewest and most tokens")
    parser.add_argument("--tokens-per-vector", type=float, nargs="+", default=[8.0, 13.0, 15.0])
    parser.add_argument("--attempts", type=int, default=8, help="at each text")
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--table", type=int, default=2048, help="positions in the solver's table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    lm = FrozenLM.load(ModelSource(args.model), device=args.device)
    recipe, solver = load_recipe(None, [f"max_steps={args.max_steps}"]), Solver(lm, table_positions=args.table)
    watched, texts = Watched(solver), targets(lm.token_rule, tuple(args.lengths), args.texts)
    jobs = [
        Job(text, recipe, num_vectors, attempt, owner=f"{num_vectors}/{attempt}")
        for text in texts
        for num_vectors in sorted({max(1, round(len(text.token_ids) / ratio)) for ratio in args.tokens_per_vector})
        for attempt in range(args.attempts)
    ]
    for job in jobs:
        solver.submit(job)
    ends = time.monotonic() + 60 * args.minutes
    while time.monotonic() < ends and not solver.is_idle:
        for attempt in solver.step():
            watched.end(attempt)
    counts = Counter(map(_case, jobs))
    cases = watched.finished(list(counts), counts)
    rows = right(watched, cases)
    for row in rows:
        print(f"step {row['step']:>3}, {row['pairs']:>5} pairs: {row['right']}", flush=True)
    record = {
        "model": Path(args.model).name, "fingerprint": lm.fingerprint, "cases": len(cases),
        "tokens_per_vector": args.tokens_per_vector, "lengths": list(args.lengths), "rows": rows,
    }  # fmt: skip
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
