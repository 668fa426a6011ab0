"""How large must a margin be for a certified prompt to survive another engine's numerics?

    python bench/survival.py --texts 96

Solves the same texts to several margins in float32, then lets vLLM decode every prompt greedily in float32 and in
bfloat16. Prints, for each margin bin, how many stay exact. Writes bench/results/survival-DATE.json.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from bench.recipes import ROOT, pick_targets
from engine.frozen_lm import FrozenLM, ModelSource
from engine.recipe import load_recipe
from engine.slots import Job
from engine.solver import Solver
from orchestrator.verifier import Candidate

STOP_MARGINS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
BINS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, math.inf)
DTYPES = ("float32", "bfloat16")


def solve(model: str, num_texts: int, tokens_per_vector: float) -> tuple[list[Candidate], list[float]]:
    """Certified prompts and their margins; each text once for every margin asked for."""
    lm = FrozenLM.load(ModelSource(model))
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


def judge(folder: Path, model: str, dtype: str) -> list[bool]:
    """Verdicts of vLLM in a process of its own, so that each dtype starts on a clean engine."""
    command = [sys.executable, "-m", "bench.survival", "--judge", str(folder), "--dtype", dtype, "--model", model]
    subprocess.run(command, check=True, cwd=ROOT)
    return json.loads((folder / f"{dtype}.json").read_text())


def judge_here(folder: Path, model: str, dtype: str) -> None:
    """The child's part of `judge`."""
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    from orchestrator.vllm_verifier import VllmVerifier

    source = ModelSource(model)
    verifier = VllmVerifier(source.path, revision=None, dtype=dtype, context=1024)
    stored = np.load(folder / "prompts.npz")
    records = json.loads((folder / "targets.json").read_text())
    candidates = [Candidate(id, stored[str(i)], tuple(ids)) for i, (id, ids) in enumerate(records)]
    (folder / f"{dtype}.json").write_text(json.dumps([verdict.exact for verdict in verifier.judge(candidates)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--tokens-per-vector", type=float, default=2.0)
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.judge:
        judge_here(args.judge, args.model, args.dtype)
        return
    torch.set_num_threads(os.cpu_count() or 1)
    candidates, margins = solve(args.model, args.texts, args.tokens_per_vector)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "prompts.npz", **{str(i): c.prompt_KD for i, c in enumerate(candidates)})
        (folder / "targets.json").write_text(json.dumps([(c.id, c.token_ids) for c in candidates]))
        exact = {dtype: judge(folder, args.model, dtype) for dtype in DTYPES}
    rows = []
    for low, high in zip(BINS, BINS[1:], strict=False):
        inside = [i for i, margin in enumerate(margins) if low <= margin < high]
        row = {"margin_from": low, "prompts": len(inside)}
        row |= {dtype: sum(exact[dtype][i] for i in inside) for dtype in DTYPES}
        rows.append(row)
        print(f"margin from {low:<5g} {row['prompts']:>4} prompts  "
              + "  ".join(f"{dtype} {row[dtype]:>4}" for dtype in DTYPES))  # fmt: skip
    path = ROOT / "bench" / "results" / f"survival-{datetime.now(UTC):%Y-%m-%d}.json"
    path.write_text(json.dumps({"args": {"model": args.model, "texts": args.texts}, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
