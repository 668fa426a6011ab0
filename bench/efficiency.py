"""How much of the processor's matrix rate a full table of the solver turns into work, on a real model.

    python -m bench.efficiency --model smollm2 --tables 256 512 1536

Owns: the rate before and after, the share. What a steady state is: bench/steady_state.py.

A step costs 4 floating-point operations a parameter and position. The rate is that of a large float32 product on the
same threads, measured before and after, for these machines are not steady; the share is of their mean.
"""

import argparse
import datetime
import json
import os
from pathlib import Path

import torch

from bench.steady_state import Machine, steady_state
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource

RESULTS = Path(__file__).parent / "results" / "efficiency.json"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--tables", type=int, nargs="+", default=[512, 1536])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--size", type=int, default=2048, help="of the product that is the measure")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    lm = FrozenLM.load(ModelSource(args.model))
    records = json.loads(args.out.read_text()) if args.out.exists() else []
    for table in args.tables:
        for packs_up_to in dict.fromkeys((0, lm.packs_up_to)):
            records.append(_measured(lm, args, table, packs_up_to))
    args.out.write_text(json.dumps(records, indent=1) + "\n")


def _measured(lm: FrozenLM, args: argparse.Namespace, table: int, packs_up_to: int) -> dict:
    lm.packs_up_to, kept = packs_up_to, lm.packs_up_to
    before = Machine.found("cpu", size=args.size)
    told = steady_state(lm, before, table, "mixed", warm=1, steps=args.steps)
    after = Machine.found("cpu", size=args.size)
    lm.packs_up_to = kept
    rates = [machine.product_float32 for machine in (before, after)]
    share = told["efficiency"] * rates[0] / (sum(rates) / 2)
    how = "packed" if packs_up_to else "padded"
    print(
        f"{args.model}, table of {table}, {how}: {share:.0%} of {rates[0] / 1e9:.0f} and {rates[1] / 1e9:.0f} GFLOP/s, "
        f"{told['positions_a_second']:.0f} positions a second, {told['passes_a_step']:.1f} passes a step",
        flush=True,
    )
    return {
        "date": datetime.date.today().isoformat(), "model": args.model, "threads": args.threads, "how": how,
        "share": share, "rates": rates, "torch": torch.__version__,
        **{k: told[k] for k in ("table", "slots", "step_s", "times", "positions_a_second", "passes_a_step", "padding")},
    }  # fmt: skip


if __name__ == "__main__":
    main()
