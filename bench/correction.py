"""What do other starts save, and how good would one have to be?

    python -m bench.correction oracle --model pocket --texts 24
    python -m bench.correction starts --corpus train.txt.gz --solved 400 --texts 48
    python -m bench.correction iterated --texts 16

Owns: the arms, what is counted. Must not know: verification.

Every arm solves the same held-out texts (sentences of english_1k, two books that no training text is from) with the
same K = T/4 to a certified margin of 0.5 under the default recipe; steps and positions are counted, all work before the
first step included, and a ratio's 95 % interval is over resampled texts. Adds to bench/results/correction.json.

K soft-prompt vectors, T target tokens, D hidden size.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import torch

from bench.cheap_starts import Start, common_arms, plain_start, sentences, solved_arms
from bench.recipes import pick_targets
from engine.correction.iterated import corrected
from engine.correction.trainer import num_vectors_for
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target
from orchestrator.learn.comparison import interval

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "correction.json"
RATIO = 4.0
TABLE = 2048


def solve(lm: FrozenLM, jobs: list[Job]) -> list[Attempt]:
    return Solver(lm, table_positions=TABLE).solve(jobs)


def job_of(
    target: Target, recipe: Recipe, owner: str = "", start: Start | None = None, tokens_per_vector: float = RATIO
) -> Job:
    num_vectors = num_vectors_for(len(target.token_ids), tokens_per_vector)
    start_KD = start(target, num_vectors) if start else None
    return replace(Job(target, recipe, num_vectors), owner=owner, start_KD=start_KD)


def rows_of(attempts: list[Attempt], base: str) -> list[dict]:
    """Figures of every arm beside those of one of them."""
    by_arm: dict[str, dict[str, Attempt]] = {}
    for attempt in attempts:
        by_arm.setdefault(attempt.job.owner, {})[attempt.job.target.id] = attempt
    rows = []
    for name, arm in by_arm.items():
        work = [(attempt.positions, by_arm[base][id].positions) for id, attempt in arm.items()]
        low, high = interval(work)
        rows.append(
            {
                "arm": name,
                "texts": len(arm),
                "solved": sum(attempt.has_margin for attempt in arm.values()),
                "mean_steps": round(fmean(attempt.steps for attempt in arm.values()), 2),
                "mean_positions": round(fmean(attempt.positions for attempt in arm.values()), 1),
                "ratio": round(sum(a for a, _ in work) / sum(b for _, b in work), 3),
                "interval": [round(low, 3), round(high, 3)],
                "median_ratio": round(median(a / b for a, b in work), 3),
            }
        )
    return rows


def oracle(lm: FrozenLM, args: argparse.Namespace) -> list[dict]:
    """Start again, with a fresh optimiser, from what the default itself had after n steps."""
    targets = pick_targets(lm, "english_1k", args.texts, (4, 50))
    recipe = load_recipe(None, ["max_steps=300"])
    solver, walked = Solver(lm, table_positions=10**9), {target.id: {} for target in targets}
    for target in targets:
        solver.submit(job_of(target, recipe))
    for _ in range(max(args.after)):
        solver.step()
        for slot in solver.active:
            walked[slot.job.target.id][slot.step] = slot.prompt_KD
    arms: dict[str, Start] = {"default": lambda t, k: plain_start(lm, t, k)}
    for count in args.after:
        arms[f"after {count} steps"] = lambda t, k, count=count: walked[t.id][min(count, max(walked[t.id]))]
    jobs = [job_of(t, recipe, name, start) for name, start in arms.items() for t in targets]
    quality = {name: _quality(lm, targets, start) for name, start in arms.items()}
    return [row | quality[row["arm"]] for row in rows_of(solve(lm, jobs), "default")]


@torch.no_grad()
def _quality(lm: FrozenLM, targets: list[Target], start: Start) -> dict:
    ids = [torch.tensor(t.token_ids, device=lm.device) for t in targets]
    scores = lm.score_targets([start(t, num_vectors_for(len(t.token_ids), RATIO)) for t in targets], ids)
    right = (scores.margin > 0).float().mean()
    return {"nats": round(float(scores.nats.mean()), 3), "accuracy": round(float(right), 3)}


def starts(lm: FrozenLM, args: argparse.Namespace) -> list[dict]:
    """Starts that need no network, beside the default's own and larger ones; what making them took is told."""
    recipe = load_recipe(None, ["max_steps=300"])
    learned_from = sentences(lm, args.corpus, max(args.solved, args.common))
    bank = [a for a in solve(lm, [job_of(target, recipe) for target in learned_from[: args.solved]]) if a.is_greedy]
    common, trained_positions = common_arms(lm, learned_from[: args.common], RATIO)
    plain = {f"target x {x:g}": lambda t, k, x=x: x * plain_start(lm, t, k) for x in (1.0, 2.0, 3.0)}
    arms = plain | solved_arms(lm, bank) | common
    targets = pick_targets(lm, "english_1k", args.texts, (4, 50))
    rows = rows_of(solve(lm, [job_of(t, recipe, n, s) for n, s in arms.items() for t in targets]), "target x 1")
    before = {"texts solved": sum(a.positions for a in bank), "common starts": trained_positions}
    return [row | _quality(lm, targets, arms[row["arm"]]) | {"positions_before": before} for row in rows]


def iterated(lm: FrozenLM, args: argparse.Namespace) -> list[dict]:
    """Attempts of `--max-steps` steps at texts that are hard for their K: afresh, or from where the last one broke."""
    targets = pick_targets(lm, "english_1k", args.texts, (16, 50))
    ended: list[Attempt] = []
    for name, rule in {"afresh, same K": "grow", "corrected": "correct"}.items():
        recipe = load_recipe(None, [f"max_steps={args.max_steps}", f"after_failure={rule}"])
        jobs = [job_of(t, recipe, name, tokens_per_vector=args.tokens_a_vector) for t in targets]
        ended += _retried(lm, jobs, args.attempts)
    whole = load_recipe(None, [f"max_steps={args.max_steps * args.attempts}"])
    jobs = [job_of(t, whole, "one long attempt", tokens_per_vector=args.tokens_a_vector) for t in targets]
    return rows_of([*ended, *solve(lm, jobs)], "one long attempt")


def _retried(lm: FrozenLM, jobs: list[Job], attempts: int) -> list[Attempt]:
    """The last attempt at each text, with the work and the steps of all."""
    positions, steps = ({job.target.id: 0 for job in jobs} for _ in range(2))
    ended: list[Attempt] = []
    for number in range(1, attempts + 1):
        retried = []
        for attempt in solve(lm, jobs):
            id, rule = attempt.job.target.id, attempt.job.recipe.after_failure
            positions[id] += attempt.positions
            steps[id] += attempt.steps
            if attempt.has_margin or number == attempts:
                ended.append(replace(attempt, positions=positions[id], steps=steps[id]))
            else:
                job = replace(attempt.job, attempt=number, start_KD=None, focus=())
                retried.append(corrected(job, attempt) if rule == "correct" else job)
        jobs = retried
    return ended


QUESTIONS = {"oracle": oracle, "starts": starts, "iterated": iterated}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--after", type=int, nargs="+", default=[2, 4, 7, 10], help="oracle: steps")
    parser.add_argument("--corpus", type=Path, default=Path("train.txt.gz"), help="starts: gzipped training text")
    parser.add_argument("--solved", type=int, default=300, help="starts: texts that are solved before")
    parser.add_argument("--common", type=int, default=2000, help="starts: texts that a common one is trained on")
    parser.add_argument("--max-steps", type=int, default=40, help="iterated: of an attempt")
    parser.add_argument("--attempts", type=int, default=5, help="iterated")
    parser.add_argument("--tokens-a-vector", type=float, default=8, help="iterated")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lm = FrozenLM.load(ModelSource(args.model))
    rows = QUESTIONS[args.question](lm, args)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    told = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    records = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    records.append({"fingerprint": lm.fingerprint, **told, "rows": rows})
    RESULTS.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
