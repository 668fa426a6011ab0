"""What does a training of minutes on a GPU make of a learned correction? Without Ray, vLLM or Parquet.

    python -m bench.gpu.learning --model pocket --corpus train.txt.gz --held-out english_1k.txt --plan step \\
        --minutes 4 --out OUT
    python -m bench.gpu.learning --plan step --small --device cpu --corpus train.txt.gz --held-out held.txt --out OUT

Both files are text, a paragraph or a sentence a line, gzipped where the name ends so. Trains on sentences of 4 to 50
tokens; then solves the held-out lines from the recipe's own start, from the learned one, and after so many corrections,
all work before the first step counted. Writes the networks, and JSON beside them.

Owns: the plans, the comparison. Must not know: how a training goes.
"""

import argparse
import gzip
import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from engine.correction.correction import Correction, CorrectionShape, figures
from engine.correction.folder import save_correction
from engine.correction.trainer import Trainer, TrainSettings, num_vectors_for
from engine.frozen_lm import FrozenLM, TokenRule
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target, decode, encode
from orchestrator.learn.comparison import worth_of

RATIO = 4.0
LENGTHS = 4, 50
LOOK_S = 20.0

PLANS: dict[str, TrainSettings] = {
    "linear": TrainSettings(
        shape=CorrectionShape(corrector="none", layers=0), rounds=0, batch=1024, lr=3e-3, tokens_per_vector=(3, 4, 5)
    ),
    "encoder": TrainSettings(
        shape=CorrectionShape(corrector="none", layers=3, width=320), rounds=0, batch=1024, lr=7e-4,
        tokens_per_vector=(3, 4, 5),
    ),
    "step": TrainSettings(
        shape=CorrectionShape(corrector="step", layers=2, width=320), rounds=6, batch=384, lr=1e-3,
        tokens_per_vector=(3, 4, 5),
    ),
}  # fmt: skip
"""Networks by name: a linear start, an encoder's start, and a start with a learned step of six rounds."""


def lines(path: Path) -> list[str]:
    """What a file says, line by line."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        return [line for line in (line.strip() for line in file) if line]


def sentences(paragraphs: list[str]) -> Iterator[str]:
    """Sentences in an order drawn once and for all."""
    found = [part for line in paragraphs for part in re.split(r"(?<=[.!?;])\s+", line)]
    random.Random(0).shuffle(found)
    return iter(found)


def targets_of(rule: TokenRule, texts: Iterator[str], most: int) -> list[Target]:
    """The first texts of 4 to 50 tokens, end included, by their number."""
    assert rule.end_id is not None
    found: list[Target] = []
    for number, text in enumerate(texts):
        ids = (*encode(rule, text), rule.end_id)
        if LENGTHS[0] <= len(ids) <= LENGTHS[1] and decode(rule, list(ids)) == text:
            found.append(Target(str(number), text, ids, ends=True))
        if len(found) == most:
            break
    return found


def train(trainer: Trainer, held_out: list[Target], minutes: float) -> list[dict]:
    """Steps for so many minutes; held-out figures on the way."""
    began, curve = time.monotonic(), []
    while (seconds := time.monotonic() - began) < 60 * minutes:
        losses = trainer.step()
        if not curve or seconds - curve[-1]["seconds"] >= LOOK_S:
            curve.append(
                look(trainer, held_out) | {"seconds": round(seconds, 1), "loss": [round(v, 3) for v in losses]}
            )
            print(json.dumps(curve[-1]), flush=True)
    return [*curve, look(trainer, held_out) | {"seconds": round(time.monotonic() - began, 1)}]


def look(trainer: Trainer, held_out: list[Target]) -> dict:
    """Figures of the first prompts and of each round."""
    rounds = figures(trainer.lm, trainer.averaged, *sizes(trainer.lm, held_out), trainer.settings.rounds)
    told = [figure.to_json() for figure in rounds]
    return {"steps": trainer.num_steps, "positions": trainer.num_positions, "rounds": told}


def sizes(lm: FrozenLM, targets: list[Target]) -> tuple[list[torch.Tensor], list[int]]:
    """Token ids of targets, and K of each."""
    ids = [torch.tensor(target.token_ids, device=lm.device) for target in targets]
    return ids, [num_vectors_for(len(ids_T), RATIO) for ids_T in ids]


def arms(lm: FrozenLM, made: Correction, targets: list[Target], corrections: list[int]) -> dict[str, list[Job]]:
    """Jobs from the recipe's own start, and from what each number of corrections makes of the learned one."""
    recipe = Recipe(max_steps=300)
    ids, num_vectors = sizes(lm, targets)
    plain = [Job(target, recipe, k) for target, k in zip(targets, num_vectors, strict=True)]
    found = made.iterate(lm, made.first(lm, ids, num_vectors), ids, max(corrections))
    after = {f"{count} corrections": found[count] for count in corrections if count < len(found)}
    return {"plain": plain} | {
        name: [replace(job, start_KD=seen.prompt_KD) for job, seen in zip(plain, situations, strict=True)]
        for name, situations in after.items()
    }


def compared(lm: FrozenLM, jobs: dict[str, list[Job]], table: int) -> list[dict]:
    """Every arm beside the plain one, over the same texts; a correction counts as a step."""
    solver = Solver(lm, table_positions=table)
    ended: dict[str, dict[str, Attempt]] = {name: {} for name in jobs}
    owned = [replace(job, owner=name) for name, arm in jobs.items() for job in arm]
    for attempt in solver.solve(owned):
        before = int(attempt.job.owner.split()[0]) if attempt.job.owner != "plain" else 0
        counted = replace(attempt, positions=attempt.positions + before * attempt.job.num_positions)
        ended[attempt.job.owner][attempt.job.target.id] = counted
    plain = ended.pop("plain")
    return [{"arm": n} | worth_of([(arm[id], plain[id]) for id in plain]).to_json() for n, arm in ended.items()]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a name, or a folder")
    parser.add_argument("--plan", choices=PLANS, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--texts", type=int, default=300, help="held-out lines that are solved")
    parser.add_argument("--pieces", type=int, default=200_000, help="sentences that are learned from, at most")
    parser.add_argument("--corrections", type=int, nargs="+", default=[0, 1, 2, 4, 6])
    parser.add_argument("--dtype", default="float32", help="of the frozen model while training")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--train", nargs="*", default=[], metavar="K=V", help="seed, lr, batch, rounds, temperature")
    parser.add_argument("--small", action="store_true", help="every line of it, in seconds")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    given = dict(pair.split("=") for pair in args.train) | ({"batch": 6, "rounds": 1} if args.small else {})
    settings = TrainSettings.model_validate(PLANS[args.plan].model_dump() | given)
    lm = FrozenLM.load(ModelSource(args.model), device=args.device, dtype=args.dtype)
    learned_from = targets_of(lm.token_rule, sentences(lines(args.corpus)), 60 if args.small else args.pieces)
    held_out = targets_of(lm.token_rule, iter(lines(args.held_out)), 4 if args.small else 10**6)
    held_out = held_out[:: max(1, len(held_out) // args.texts)][: args.texts]
    trainer = Trainer(lm, [target.token_ids for target in learned_from], settings)
    curve = train(trainer, held_out, 0.02 if args.small else args.minutes)
    exact = FrozenLM.load(ModelSource(args.model), device=args.device, dtype="float32")
    folder = args.out / f"{Path(args.model).name}-{args.plan}"
    folder.mkdir(parents=True, exist_ok=True)
    save_correction(folder, trainer.averaged, exact)
    rows = compared(exact, arms(exact, trainer.averaged, held_out, args.corrections), 512 if args.small else 16384)
    told = {
        "model": Path(args.model).name, "plan": args.plan, "settings": settings.model_dump(mode="json"),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device, "dtype": args.dtype,
        "pieces": len(learned_from), "texts": len(held_out), "tokens_per_vector": RATIO, "curve": curve, "rows": rows,
        "parameters": sum(p.numel() for p in trainer.averaged.parameters()),
    }  # fmt: skip
    (folder / "learning.json").write_text(json.dumps(told, indent=1) + "\n")
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
