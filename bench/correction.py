"""What do other starts save, and how good would one have to be?

    python -m bench.correction oracle --model pocket --texts 24
    python -m bench.correction starts --solved 300
    python -m bench.correction learned --folder DIR --corrections 0 1 3
    python -m bench.correction iterated --texts 16

Owns: the arms, what is counted. Must not know: verification.

Every arm solves the same held-out texts (sentences of english_1k, two books that no training text is from) with the
same K = T/4 to a certified margin of 0.5 under the default recipe; steps and positions are counted, all work before the
first step included, and a ratio's 95 % interval is over resampled texts. Adds to bench/results/correction.json.

K soft-prompt vectors, T target tokens, D hidden size.
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from bench.recipes import pick_targets
from engine.correction.correction import figures
from engine.correction.folder import load_correction
from engine.correction.iterated import corrected
from engine.correction.trainer import num_vectors_for
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.soft_prompt import Origin, target_start
from engine.solver import Solver
from engine.target import Target, make_target
from orchestrator.learn.comparison import interval

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "correction.json"
RATIO = 4.0
TABLE = 2048
RIDGE = 30.0
"""Added to the diagonal of the features' products. Assumption."""

Start = Callable[[Target, int], Tensor]


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
                "solved": sum(_is_solved(attempt) for attempt in arm.values()),
                "mean_steps": round(fmean(attempt.steps for attempt in arm.values()), 2),
                "mean_positions": round(fmean(attempt.positions for attempt in arm.values()), 1),
                "ratio": round(sum(a for a, _ in work) / sum(b for _, b in work), 3),
                "interval": [round(low, 3), round(high, 3)],
                "median_ratio": round(median(a / b for a, b in work), 3),
            }
        )
    return rows


def _is_solved(attempt: Attempt) -> bool:
    certificate = attempt.certificate
    return certificate is not None and attempt.is_greedy and certificate.min_margin >= attempt.job.recipe.stop_margin


def plain_start(lm: FrozenLM, target: Target, num_vectors: int) -> Tensor:
    """(K, D): the default's own."""
    target_T = torch.tensor(target.token_ids, device=lm.device)
    return target_start(lm, Origin(num_vectors, torch.Generator(), target_T))


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


def sentences(lm: FrozenLM, corpus: Path, count: int, seed: int = 11) -> list[Target]:
    """Sentences of the training corpus, drawn at random."""
    with gzip.open(corpus, "rt", encoding="utf-8") as file:
        paragraphs = file.read().split("\n")
    draw, found = random.Random(seed), []
    while len(found) < count:
        parts = [s for s in re.split(r"(?<=[.!?;])\s+", draw.choice(paragraphs)) if 9 <= len(s) <= 218]
        target = make_target(lm.token_rule, f"train-{len(found)}", draw.choice(parts)) if parts else None
        if isinstance(target, Target) and 4 <= len(target.token_ids) <= 50:
            found.append(target)
    return found


def starts(lm: FrozenLM, args: argparse.Namespace) -> list[dict]:
    """Larger starts, and starts made of solved prompts: a bank, what is common to all, ridge regression."""
    recipe = load_recipe(None, ["max_steps=300"])
    arms: dict[str, Start | None] = {"default": None}
    for scale in (2.0, 3.0):
        arms[f"target x {scale:g}"] = lambda t, k, scale=scale: scale * plain_start(lm, t, k)
    bank = solve(lm, [job_of(target, recipe) for target in sentences(lm, args.corpus, args.solved)])
    bank = [attempt for attempt in bank if attempt.is_greedy]
    arms |= solved_arms(lm, bank)
    targets = pick_targets(lm, "english_1k", args.texts, (4, 50))
    rows = rows_of(solve(lm, [job_of(t, recipe, n, s) for n, s in arms.items() for t in targets]), "default")
    work = sum(attempt.positions for attempt in bank)
    return [row | {"solved_before": len(bank), "positions_before": work} for row in rows]


def solved_arms(lm: FrozenLM, bank: list[Attempt]) -> dict[str, Start | None]:
    """Starts from solved prompts."""

    def nearest(target: Target, num_vectors: int) -> Tensor:
        ids = list(target.token_ids)
        best = max(bank, key=lambda a: Levenshtein.normalized_similarity(list(a.job.target.token_ids), ids))
        return stretched(best.prompt_KD, num_vectors)

    common_D = torch.cat([a.prompt_KD - _plain(lm, a) for a in bank]).mean(0)
    weight = ridge(torch.cat([features(lm, a.job.target, len(a.prompt_KD)) for a in bank]),
                   torch.cat([a.prompt_KD - _plain(lm, a) for a in bank]))  # fmt: skip
    return {
        "nearest of a bank": nearest,
        "common offset": lambda t, k: plain_start(lm, t, k) + common_D,
        "ridge": lambda t, k: plain_start(lm, t, k) + features(lm, t, k) @ weight,
        "ridge x 2": lambda t, k: 2 * (plain_start(lm, t, k) + features(lm, t, k) @ weight),
    }


def _plain(lm: FrozenLM, attempt: Attempt) -> Tensor:
    return plain_start(lm, attempt.job.target, len(attempt.prompt_KD))


def stretched(prompt_KD: Tensor, num_vectors: int) -> Tensor:
    """Another number of vectors, evenly spaced over those that there are."""
    return prompt_KD[torch.linspace(0, len(prompt_KD) - 1, num_vectors).round().long()]


def features(lm: FrozenLM, target: Target, num_vectors: int, parts: int = 4) -> Tensor:
    """(K, parts * D + 1): embeddings of the tokens that each vector stands for, in order, and a one."""
    ids_T = torch.tensor(target.token_ids)
    middles = (torch.arange(num_vectors * parts) + 0.5) * len(ids_T) / (num_vectors * parts)
    own = lm.embed(ids_T[middles.long().clamp_max(len(ids_T) - 1)]).float() / lm.embed_rms
    return torch.cat([own.reshape(num_vectors, -1), torch.ones(num_vectors, 1)], 1)


def ridge(features_NF: Tensor, values_ND: Tensor) -> Tensor:
    """(F, D): the linear map of least squared error, with `RIDGE` on its weights."""
    product = features_NF.T @ features_NF + RIDGE * torch.eye(features_NF.shape[1])
    return torch.linalg.solve(product, features_NF.T @ values_ND)


def learned(lm: FrozenLM, args: argparse.Namespace) -> list[dict]:
    """The start and the corrections of folders that `verbatim learn` wrote."""
    targets = pick_targets(lm, "english_1k", args.texts, (4, 50))
    recipes = {"default": load_recipe(None, ["max_steps=300"])}
    for folder in args.folder:
        for count in args.corrections:
            given = ["start.name=learned", f"start.folder={folder.resolve()}", f"start.corrections={count}"]
            recipes[f"{folder.name}, {count} corrections"] = load_recipe(None, ["max_steps=300", *given])
    rows = rows_of(solve(lm, [job_of(t, r, n) for n, r in recipes.items() for t in targets]), "default")
    ids = [torch.tensor(t.token_ids, device=lm.device) for t in targets]
    vectors = [num_vectors_for(len(t.token_ids), RATIO) for t in targets]
    for folder in args.folder:
        made = load_correction(folder, lm)
        card = json.loads((folder / "card.json").read_text()) if (folder / "card.json").exists() else {}
        told = {"arm": f"{folder.name}, no step", "trained_positions": card.get("positions")}
        rows.append(told | {"rounds": [f.to_json() for f in figures(lm, made, ids, vectors, max(args.corrections))]})
    return rows


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
            if _is_solved(attempt) or number == attempts:
                ended.append(replace(attempt, positions=positions[id], steps=steps[id]))
            else:
                job = replace(attempt.job, attempt=number, start_KD=None, focus=())
                retried.append(corrected(job, attempt) if rule == "correct" else job)
        jobs = retried
    return ended


QUESTIONS = {"oracle": oracle, "starts": starts, "learned": learned, "iterated": iterated}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--after", type=int, nargs="+", default=[2, 4, 7, 10], help="oracle: steps")
    parser.add_argument("--corpus", type=Path, default=Path("train.txt.gz"), help="starts: gzipped training text")
    parser.add_argument("--solved", type=int, default=300, help="starts: texts that are solved before")
    parser.add_argument("--folder", type=Path, nargs="*", default=[], help="learned: what `verbatim learn` wrote")
    parser.add_argument("--corrections", type=int, nargs="+", default=[0], help="learned: rounds")
    parser.add_argument("--max-steps", type=int, default=40, help="iterated: of an attempt")
    parser.add_argument("--attempts", type=int, default=5, help="iterated")
    parser.add_argument("--tokens-a-vector", type=float, default=8, help="iterated")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lm = FrozenLM.load(ModelSource(args.model))
    rows = QUESTIONS[args.question](lm, args)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    told = {
        key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items() if key != "folder"
    }
    records = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    records.append({"fingerprint": lm.fingerprint, **told, "rows": rows})
    RESULTS.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
