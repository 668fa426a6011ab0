"""How large must a margin be for a certified prompt to survive other numerics, batch sizes, rounding and noise?

    python bench/survival.py --texts 96

Solves the same texts to several margins in float32, then climbs the ladder of proof with every prompt on vLLM and its
greedy rungs on transformers (the beam search with every `--beam-every`-th prompt only: it costs as much as all the
rest). Writes bench/results/survival.json; `python bench/survival_report.py` makes the table and picture of it.
"""

import argparse
import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import ray
import torch
from rich.console import Console

from bench.recipes import ROOT, pick_targets
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import load_recipe
from engine.slots import Job
from engine.solver import Solver
from orchestrator import fleet
from orchestrator.ladder import RUNGS, Proof, climb
from orchestrator.progress import make_reporter
from orchestrator.verifier import Candidate
from orchestrator.verifier_actor import EngineSpec

RESULTS = ROOT / "bench" / "results" / "survival.json"
STOP_MARGINS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
BEAM = tuple(rung for rung in RUNGS if rung.mode.beams > 1)
OTHERS = tuple(rung for rung in RUNGS if rung.mode.beams == 1)
GREEDY = tuple(rung for rung in OTHERS if rung.rounding == "float32")


def solve(lm: FrozenLM, num_texts: int, tokens_per_vector: float) -> tuple[list[Candidate], list[float]]:
    """Certified prompts and their margins; each text once for every margin asked for."""
    jobs = []
    for target in pick_targets(lm, num_texts):
        for margin in STOP_MARGINS:
            recipe = load_recipe(None, [f"stop_margin={margin}", f"loss.margin={max(1.0, 2 * margin)}"])
            jobs.append(Job(target, recipe, math.ceil(len(target.token_ids) / tokens_per_vector)))
    attempts = [a for a in Solver(lm).solve(jobs) if a.is_candidate]
    candidates = [
        Candidate(f"{a.job.target.id}/{a.job.recipe.stop_margin}", a.prompt_KD.numpy(), a.job.target.token_ids)
        for a in attempts
    ]
    return candidates, [a.certificate.min_margin for a in attempts if a.certificate]


def entry(proof: Proof) -> dict:
    """One engine's verdicts, as compact as they come: one digit a prompt."""
    return {
        "engine": proof.engine,
        "margins": [round(margin, 5) for margin in proof.margins],
        "passed": {name: "".join(str(int(is_exact)) for is_exact in exact) for name, exact in proof.passed.items()},
        "noise_radius": [radius if radius == radius else None for radius in proof.noise_radius],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--tokens-per-vector", type=float, default=2.0)
    parser.add_argument("--beam-every", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    lm = FrozenLM.load(ModelSource(args.model))
    started = time.monotonic()
    candidates, margins = solve(lm, args.texts, args.tokens_per_vector)
    print(f"{len(candidates)} prompts in {time.monotonic() - started:.0f} s", flush=True)
    spec = EngineSpec("vllm", ModelSource(args.model).path, None, "float32", lm.tokens.context)
    fleet.connect(None, dashboard=False)
    reporter = make_reporter(Console(), len(candidates))
    every = slice(None, None, args.beam_every)
    proofs = {
        "vllm": climb(candidates, margins, spec, reporter, OTHERS),
        "vllm, beam": climb(candidates[every], margins[every], spec, reporter, BEAM, noise=False),
        "hf": climb(candidates, margins, replace(spec, engine="hf"), reporter, GREEDY, noise=False),
    }
    ray.shutdown()
    record = {
        "setting": {"model": lm.fingerprint, "texts": args.texts, "torch": torch.__version__, "device": "cpu"},
        "proofs": {name: entry(proof) for name, proof in proofs.items()},
    }
    args.out.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
