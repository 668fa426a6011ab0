"""Verified texts an hour, ours and the published systems', side by side in one run.

    python -m bench.speed --model pocket --vectors 4 16
    python -m bench.speed --model smollm2 --texts 3 --vectors 8 --methods ours per_sample plain_loop
    python -m bench.speed --texts 96 --one-in 12 --device cuda --engine hf

Owns: the clock, the ratios. The peers are in `bench/peers.py`. Must not know: Ray.

Same texts, same K, same model in memory, same threads. Every method ends a text where it would end it; what it found is
then decoded by the verifier, and only what is exact counts. Ours pays for its proof, the others for none; loading is
nobody's. The methods take turns `--repeats` times, and a ratio is told with its least and most. Texts an hour of a
method that takes one text after the other do not depend on their number: `--one-in N` gives it every N-th text.
"""

import argparse
import datetime
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench.peers import Found, noise, peft, per_sample, plain_loop, progressive
from bench.recipes import ROOT, pick_targets
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target
from orchestrator.verifiers.contract import SLACK_TOKENS, Candidate, Verifier

RESULTS = ROOT / "bench" / "results" / "speed.json"


def ours(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int, recipe: Recipe) -> Found:
    """The solver under a recipe."""
    recipe = recipe.model_copy(update={"max_steps": min(max_steps, recipe.max_steps)})
    solver = Solver(lm, table_positions=1536 if lm.device.type == "cpu" else 16384)
    attempts = solver.solve([Job(target, recipe, num_vectors) for target in targets])
    prompts = {a.job.target.id: held(a.prompt_KD) for a in attempts if a.is_candidate}
    return Found(prompts, [a.steps for a in attempts], sum(a.positions for a in attempts))


METHODS: dict[str, Callable[..., Found]] = {
    "ours": ours, "per_sample": per_sample, "progressive": progressive, "plain_loop": plain_loop, "peft": peft,
}  # fmt: skip

ONE_BY_ONE = ("per_sample", "peft")
"""Methods whose time is that of each text after the other."""


def judge(verifier: Verifier, targets: list[Target], found: Found) -> int:
    """How many of the prompts the verifier decodes to their texts."""
    candidates = [
        Candidate(t.id, found.prompts[t.id].cpu().numpy(), t.token_ids) for t in targets if t.id in found.prompts
    ]  # fmt: skip
    return sum(verdict.exact for verdict in verifier.judge(candidates)) if candidates else 0


def measure(lm: FrozenLM, verifier: Verifier, targets: list[Target], num_vectors: int, args) -> dict[str, list[dict]]:
    """Every method's turns."""
    turns: dict[str, list[dict]] = {method: [] for method in args.methods}
    methods = METHODS | {"ours": partial(ours, recipe=load_recipe(args.recipe) if args.recipe else Recipe())}
    for turn in range(args.repeats):
        for method in args.methods:
            torch.manual_seed(turn)
            given = targets[:: args.one_in] if method in ONE_BY_ONE else targets
            started = time.perf_counter()
            found = methods[method](lm, given, num_vectors, args.max_steps)
            solved_s = time.perf_counter() - started
            exact = judge(verifier, given, found)
            seconds = time.perf_counter() - started if method == "ours" else solved_s
            turns[method].append({
                "seconds": round(seconds, 3), "exact": exact, "texts": len(given),
                "steps": statistics.fmean(found.steps), "positions": found.positions,
                "texts_an_hour": 3600 * exact / seconds,
            })  # fmt: skip
            print(f"  K = {num_vectors}, {method:<12} {exact} of {len(given)} exact, {seconds:6.1f} s, "
                  f"{turns[method][-1]['steps']:6.1f} steps", flush=True)  # fmt: skip
    return turns


def ratios(turns: dict[str, list[dict]]) -> dict[str, tuple[float, float, float]]:
    """Our texts an hour over each method's, turn by turn: median, least, most."""
    told = {}
    for method, theirs in turns.items():
        pairs = zip(turns["ours"], theirs, strict=True)
        each = [mine["texts_an_hour"] / max(1e-9, other["texts_an_hour"]) for mine, other in pairs]
        told[method] = (statistics.median(each), min(each), max(each))
    return told


def verifier_of(args: argparse.Namespace, source: ModelSource, context: int) -> Verifier:
    if args.engine == "hf":
        from orchestrator.verifiers.hf_verifier import HfVerifier

        return HfVerifier(source.path, revision=None, dtype="float32", context=context, device=args.device)
    from orchestrator.verifiers.vllm_verifier import VllmVerifier

    return VllmVerifier(source.path, revision=None, dtype="float32", context=context)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--corpus", default="english_1k", help="a file of corpora/")
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--lengths", type=int, nargs=2, default=(12, 20), help="fewest and most tokens")
    parser.add_argument("--vectors", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=[m for m in METHODS if m != "peft"])
    parser.add_argument("--recipe", type=Path, help="of ours, as `verbatim learn` writes one")
    parser.add_argument("--one-in", type=int, default=1, help="methods of one text after the other get every N-th text")
    parser.add_argument("--max-steps", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=("vllm", "hf"), default="vllm")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    torch.set_num_threads(args.threads)
    source = ModelSource(args.model)
    lm = FrozenLM.load(source, device=args.device)
    targets = pick_targets(lm, args.corpus, args.texts, tuple(args.lengths))
    longest = max(len(target.token_ids) for target in targets) + max(args.vectors) + 1 + SLACK_TOKENS
    verifier = verifier_of(args, source, longest)
    torch.set_num_threads(args.threads)  # an engine sets its own
    judge(verifier, targets, Found({t.id: noise(lm, 1) for t in targets}))  # the first call of a process takes longer
    records = json.loads(args.out.read_text()) if args.out.exists() else []
    for num_vectors in args.vectors:
        turns = measure(lm, verifier, targets, num_vectors, args)
        told = ratios(turns)
        for method, (median, least, most) in told.items():
            print(f"{args.model}, K = {num_vectors}: ours over {method}: {median:.1f} ({least:.1f} to {most:.1f})")
        records.append({
            "date": datetime.date.today().isoformat(), "model": args.model, "fingerprint": lm.fingerprint,
            "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
            "recipe": args.recipe.parent.name if args.recipe else "default",
            "engine": verifier.engine, "num_vectors": num_vectors, "threads": args.threads, "corpus": args.corpus,
            "tokens": [len(t.token_ids) for t in targets], "turns": turns, "ratios": told, "torch": torch.__version__,
        })  # fmt: skip
        args.out.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
