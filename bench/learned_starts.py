"""What is a learned start worth, by tokens a vector and by length?

    python -m bench.learned_starts --folder DIR --model pocket --corrections 0 2 --tokens-per-vector 2 4 8 --texts 96
    python -m bench.learned_starts --folder DIR --model smollm2 --lengths 30 60 --texts 24 --trained-positions 4200000

Owns: the arms, what is counted, the networks' own arithmetic. Must not know: training, verification.

DIR is what `verbatim learn` or bench/gpu/learning.py wrote. Every arm solves the same held-out sentences of english_1k
(two books that no training text is from) to a certified margin of 0.5 under the default recipe. Steps and positions are
counted, a correction's look at the model among them; what the small networks compute themselves is told in positions of
the same arithmetic, and an arm's seconds of processor, as orientation. Adds one record a ratio to
bench/results/learned_starts.json, with every text's work.

K soft-prompt vectors, T target tokens.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.correction import ROOT, job_of, rows_of, solve
from bench.recipes import pick_targets
from engine.correction.correction import Correction, figures
from engine.correction.folder import digest_of, load_correction
from engine.correction.situation import look
from engine.correction.trainer import num_vectors_for
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt
from engine.target import Target

RESULTS = ROOT / "bench" / "results" / "learned_starts.json"
DEFAULT = "default"


def texts_of(lm: FrozenLM, lengths: tuple[int, int], count: int, seed: int) -> list[Target]:
    """Held-out sentences of so many tokens, drawn at random."""
    found = pick_targets(lm, "english_1k", 10**6, lengths)
    return random.Random(seed).sample(found, min(count, len(found)))


def recipes_of(folder: Path, corrections: list[int], sets: list[str]) -> dict[str, Recipe]:
    """The default, and the learned start after each number of corrections."""
    recipes = {DEFAULT: load_recipe(None, sets)}
    for count in corrections:
        given = ["start.name=learned", f"start.folder={folder.resolve()}", f"start.corrections={count}"]
        recipes[f"{count} corrections"] = load_recipe(None, [*sets, *given])
    return recipes


def own_positions(lm: FrozenLM, made: Correction, target_T: Tensor, num_vectors: int, rounds: int) -> float:
    """What the networks compute for one text's start, in positions of an optimiser's step of the same arithmetic."""
    with torch.no_grad():
        (prompt_KD,) = made.first(lm, [target_T], [num_vectors])
    with FlopCounterMode(display=False) as of_step:
        seen = look(lm, [prompt_KD], [target_T], with_gradient=True)
    with FlopCounterMode(display=False) as of_start, torch.no_grad():
        made.first(lm, [target_T], [num_vectors])
    with FlopCounterMode(display=False) as of_correction, torch.no_grad():
        if made.corrector is not None:
            made.corrector.propose(lm, seen)
    arithmetic = of_start.get_total_flops() + rounds * of_correction.get_total_flops()
    return arithmetic * (len(target_T) + num_vectors - 1) / of_step.get_total_flops()


def measured(
    lm: FrozenLM, made: Correction, recipes: dict[str, Recipe], targets: list[Target], ratio: float
) -> tuple[list[dict], list[Attempt]]:
    """A row an arm, and every attempt."""
    ids = [torch.tensor(t.token_ids, device=lm.device) for t in targets]
    vectors = [num_vectors_for(len(t.token_ids), ratio) for t in targets]
    attempts: list[Attempt] = []
    seconds: dict[str, float] = {}
    for name, recipe in recipes.items():
        began = time.process_time()
        attempts += solve(lm, [job_of(t, recipe, name, tokens_per_vector=ratio) for t in targets])
        seconds[name] = round(time.process_time() - began, 1)
    rows = {row["arm"]: row | {"processor_s": seconds[row["arm"]]} for row in rows_of(attempts, DEFAULT)}
    plain = rows[DEFAULT]["mean_positions"]
    for name, recipe in recipes.items():
        rounds = recipe.start.corrections
        if name == DEFAULT or (rounds and made.corrector is None):
            continue
        own = fmean(own_positions(lm, made, t, k, rounds) for t, k in zip(ids, vectors, strict=True))
        rows[name] |= {
            "own_positions": round(own, 1),
            "ratio_with_own": round((rows[name]["mean_positions"] + own) / plain, 3),
        }
    return [rows[name] for name in recipes], attempts


def record_of(lm: FrozenLM, args: argparse.Namespace, made: Correction, targets: list[Target], ratio: float) -> dict:
    """All figures at one ratio of tokens to vectors."""
    recipes = recipes_of(args.folder, args.corrections, [f"max_steps={args.max_steps}"])
    rows, attempts = measured(lm, made, recipes, targets, ratio)
    for row in rows:
        saved = rows[0]["mean_positions"] - row["mean_positions"]
        if args.trained_positions and row["interval"][1] < 1:
            row["pays_from_texts"] = math.ceil(args.trained_positions / saved)
    work: dict[str, dict[str, list]] = {}
    for a in attempts:
        told = work.setdefault(a.job.target.id, {"tokens": [len(a.job.target.token_ids)]})
        told[a.job.owner] = [a.steps, a.positions]
    ids = [torch.tensor(t.token_ids, device=lm.device) for t in targets]
    vectors = [num_vectors_for(len(t.token_ids), ratio) for t in targets]
    rounds = figures(lm, made, ids, vectors, args.rounds)
    return {
        "model": args.model, "fingerprint": lm.fingerprint, "network": args.name or args.folder.name,
        "digest": digest_of(args.folder), "trained_positions": args.trained_positions,
        "tokens_per_vector": ratio, "lengths": args.lengths, "seed": args.seed, "max_steps": args.max_steps,
        "texts": len(targets), "rows": rows, "without_a_step": [f.to_json() for f in rounds],
        "work": work,
    }  # fmt: skip


def keep(record: dict) -> None:
    """Add a record to the results, one a line."""
    records = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    records.append(record)
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in records) + "\n]\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of networks")
    parser.add_argument("--name", default="", help="of the networks, in the record; the folder's unless given")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--corrections", type=int, nargs="+", default=[0], help="before the first step, an arm each")
    parser.add_argument("--tokens-per-vector", type=float, nargs="+", default=[4.0], metavar="R")
    parser.add_argument("--lengths", type=int, nargs=2, default=[4, 50], help="tokens, from and to")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1, help="of the draw of texts")
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3, help="corrections that the texts get with no step at all")
    parser.add_argument("--trained-positions", type=int, default=0, help="what the training cost")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    lm = FrozenLM.load(ModelSource(args.model))
    made = load_correction(args.folder, lm)
    targets = texts_of(lm, tuple(args.lengths), args.texts, args.seed)
    for ratio in args.tokens_per_vector:
        record = record_of(lm, args, made, targets, ratio)
        keep(record)
        for row in [*record["rows"], *record["without_a_step"]]:
            print(f"T / K = {ratio:g}", "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
