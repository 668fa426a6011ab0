"""How large must a margin be for a certified prompt to survive other numerics, batch sizes, rounding and noise?

    python -m bench.survival --set loss.margin=8
    python -m bench.survival --model smollm2 --texts 36 --longest 24 --margins 0.01 0.05 0.1 0.25 0.5 1 2 \\
        --set loss.margin=4

Solves texts in float32, each once and beyond all margins, and keeps the prompt at which each margin was first reached.
Then climbs the ladder of proof with every prompt on vLLM and its greedy rungs on transformers (the beam search with
every `--beam-every`-th prompt only: it costs as much as all the rest). Writes bench/results/survival_MODEL.json;
`python -m bench.survival_report` makes the tables and pictures of all of them.
"""

import argparse
import bisect
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import ray
import torch
from rich.console import Console
from torch import Tensor

from bench.recipes import ROOT, pick_targets
from engine.certificate import Certificate
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Job
from engine.solver import Solver
from orchestrator.console.progress import make_reporter
from orchestrator.fleet import workers
from orchestrator.fleet.verifier_actor import EngineSpec
from orchestrator.proof.ladder import RUNGS, Proof, climb
from orchestrator.verifiers.contract import SLACK_TOKENS, Candidate

RESULTS = ROOT / "bench" / "results"
MARGINS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
BEAM = tuple(rung for rung in RUNGS if rung.mode.beams > 1)
OTHERS = tuple(rung for rung in RUNGS if rung.mode.beams == 1 and rung.mode.decoded)
GREEDY = tuple(rung for rung in OTHERS if rung.rounding == "float32")

Measured = tuple[Job, Tensor, Certificate | None]


def snapshots(solver: Solver, jobs: list[Job], margins: Sequence[float]) -> Iterator[tuple[Candidate, float]]:
    """Prompts and their smallest margins: of every text the first that reached each margin, once where it is one."""
    reached = dict.fromkeys((job.target.id for job in jobs), 0)
    for job in jobs:
        solver.submit(job)
    while not solver.is_idle:
        measured: list[Measured] = [(a.job, held(a.prompt_KD), a.certificate) for a in solver.step()]
        measured += [(s.job, held(s.best.prompt_KD), s.best.certificate) for s in solver.active if s.best]
        for job, prompt_KD, certificate in measured:
            level = bisect.bisect_right(margins, certificate.min_margin) if certificate else 0
            if certificate and certificate.is_greedy and level > reached[job.target.id]:
                reached[job.target.id] = level
                name = f"{job.target.id}/{margins[level - 1]:g}"
                yield Candidate(name, prompt_KD.numpy().copy(), job.target.token_ids), certificate.min_margin


def jobs_for(lm: FrozenLM, recipe: Recipe, num_texts: int, longest: int, tokens_per_vector: float) -> list[Job]:
    """Attempts at so many sentences of english_1k of all lengths up to `longest` tokens."""
    targets = pick_targets(lm, "english_1k", num_texts, (1, longest))
    return [Job(t, recipe, math.ceil(len(t.token_ids) / tokens_per_vector)) for t in targets]


def entry(proof: Proof) -> dict:
    """One engine's verdicts, as compact as they come: one digit a prompt."""
    return {
        "engine": proof.engine,
        "margins": [round(margin, 5) for margin in proof.margins],
        "passed": {
            name: "".join("-" if is_exact is None else str(int(is_exact)) for is_exact in exact)
            for name, exact in proof.passed.items()
        },
        "noise_radius": [radius if radius == radius else None for radius in proof.noise_radius],
    }


def prove(candidates: list[Candidate], margins: list[float], spec: EngineSpec, beam_every: int) -> dict[str, dict]:
    """The verdicts of both engines."""
    workers.connect(None, dashboard=False)
    reporter = make_reporter(Console(), len(candidates))
    every = slice(None, None, beam_every)
    proofs = {
        "vllm": climb(candidates, margins, spec, reporter, OTHERS),
        "vllm, beam": climb(candidates[every], margins[every], spec, reporter, BEAM, noise=False),
        "hf": climb(candidates, margins, replace(spec, engine="hf"), reporter, GREEDY, noise=False),
    }
    ray.shutdown()
    return {name: entry(proof) for name, proof in proofs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--longest", type=int, default=60, help="tokens of the longest text")
    parser.add_argument("--margins", type=float, nargs="+", default=MARGINS, help="in rising order")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="override a recipe value")
    parser.add_argument("--tokens-per-vector", type=float, default=2.0)
    parser.add_argument("--beam-every", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    lm = FrozenLM.load(ModelSource(args.model))
    recipe = load_recipe(None, [*args.set, f"stop_margin={args.margins[-1]}"])
    started = time.monotonic()
    jobs = jobs_for(lm, recipe, args.texts, args.longest, args.tokens_per_vector)
    found = list(snapshots(Solver(lm), jobs, args.margins))
    print(f"{len(found)} prompts for {len(jobs)} texts in {time.monotonic() - started:.0f} s", flush=True)
    spec = EngineSpec("vllm", args.model, None, "float32", max(job.num_positions for job in jobs) + 1 + SLACK_TOKENS)
    setting = {"texts": len(jobs), "longest": max(len(job.target.token_ids) for job in jobs), "sets": args.set}
    record = {
        "setting": setting | {"model": lm.fingerprint, "torch": torch.__version__, "device": "cpu"},
        "proofs": prove([c for c, _ in found], [m for _, m in found], spec, args.beam_every),
    }
    (RESULTS / f"survival_{Path(args.model).name}.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
