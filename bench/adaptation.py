"""What does it cost to find out which proof a model can afford, and which member of a portfolio goes first?

    python -m bench.adaptation --model pocket smollm2

Owns: the measurement's own cost in positions and seconds, its answers. Must not know: Ray, vLLM, caches.

Each model gets the vector plan that is kept or made for it, then the races of `engine.adaptation` under
`proof = "auto"`, and under a portfolio of four, without a bound in time. Positions are counted, seconds are those of a
busy or a quiet machine. Writes bench/results/adaptation.json.
"""

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.populations import MEMBERS
from engine.adaptation import adapt
from engine.capacity import VectorPlan, calibrate
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.solver import Solver
from orchestrator.measured.plan_cache import load_plan

RESULTS = Path(__file__).parent / "results" / "adaptation.json"
ASKED = {"proof": ["proof=auto"], "first member": [MEMBERS]}


def measured(lm: FrozenLM, plan: VectorPlan, asked: str) -> dict[str, Any]:
    """What one measurement found and cost."""
    solver, started = Solver(lm), time.monotonic()
    found = adapt(solver, load_recipe(None, ASKED[asked]), plan)
    return {
        "asked": asked, "found": asdict(found), "positions": int(solver.num_positions), "steps": solver.num_steps,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def of_model(model: str, asked: list[str]) -> dict[str, Any]:
    """All measurements of one model, the calibration among them where it had to be made."""
    lm = FrozenLM.load(ModelSource(model))
    solver, started = Solver(lm), time.monotonic()
    plan = load_plan(lm.fingerprint, Recipe(), 0.0) or calibrate(solver, Recipe(), math.inf)
    record = {
        "model": Path(model).name, "fingerprint": lm.fingerprint, "plan": plan.points,
        "threads": torch.get_num_threads(),
        "calibration": {"positions": int(solver.num_positions), "seconds": round(time.monotonic() - started, 1)},
    }  # fmt: skip
    return record | {"measured": [measured(lm, plan, each) for each in asked]}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["pocket", "smollm2"], help="names, or models' folders")
    parser.add_argument("--asked", nargs="+", default=list(ASKED), choices=list(ASKED))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    records = []
    for model in args.model:
        records.append(of_model(model, args.asked))
        print(json.dumps(records[-1]), flush=True)
        args.out.write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n")


if __name__ == "__main__":
    main()
