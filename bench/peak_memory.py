"""Peak memory of a pass against what a run plans with: layers that keep what backward needs, and such that compute it
again (`engine.recomputation`).

    python -m bench.peak_memory --model pocket smollm2 --positions 512 1000

Owns: the measurement, each in a process of its own that has made a small pass before. Must not know: who shares memory.

One text of so many positions alone, forward and backward. The estimate is `Footprint`'s a position and three chunks of
logits; what a run plans with is `spread` times the first, since allocators keep more than tensors take. With
MALLOC_MMAP_THRESHOLD_=65536 in the environment glibc keeps nothing, and the figures are those of the tensors.
"""

import argparse
import datetime
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from engine.footprint import Footprint
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from orchestrator.sizing.sharing import KINDS, LOGITS_BYTES

RESULTS = Path(__file__).parent / "results" / "peak_memory.json"
NUM_VECTORS = 16


def memory(name: str) -> int:
    """Bytes that this process takes, `VmRSS`, or took at most, `VmHWM`."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(facts[name].split()[0]) << 10


def one_pass(lm: FrozenLM, positions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    prompt_KD = (torch.randn(NUM_VECTORS, lm.hidden_size, generator=generator) * lm.embed_rms).requires_grad_()
    target_T = torch.randint(lm.vocab_size, (positions - NUM_VECTORS + 1,), generator=generator)
    torch.autograd.grad(lm.score_targets([prompt_KD], [target_T]).nll.sum(), prompt_KD)


def measured(model: str, positions: int, keeps: bool, threads: int) -> dict[str, float]:
    """In a process of its own: bytes that a pass came to take, and its seconds."""
    torch.set_num_threads(threads)
    lm = FrozenLM.load(ModelSource(model))
    one_pass(lm, 64)
    lm.keeps_up_to = positions if keeps else 0
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    before = memory("VmRSS")
    began = time.perf_counter()
    one_pass(lm, positions)
    return {"bytes": memory("VmHWM") - before, "seconds": time.perf_counter() - began}


def apart(function: Callable[..., dict[str, float]], *args: Any) -> dict[str, float]:
    """What a function returns in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args).result()


def estimated(model: str, positions: int, keeps: bool) -> tuple[int, int]:
    """Bytes by the formula, and what a run plans with."""
    footprint, logits = Footprint.of(ModelSource(model)), LOGITS_BYTES["cpu"]
    of = footprint.training_bytes_a_position if keeps else footprint.recomputed_bytes_a_position
    bare = positions * of("float32")
    return bare + logits, int(KINDS["cpu"].spread * bare) + logits


def rows(args: argparse.Namespace) -> list[dict]:
    told = []
    for model in args.model:
        for positions in args.positions:
            for keeps in (True, False):
                turns = [apart(measured, model, positions, keeps, args.threads) for _ in range(args.repeats)]
                bare, planned = estimated(model, positions, keeps)
                shares = sorted(turn["bytes"] / bare for turn in turns)
                told.append({
                    "date": datetime.date.today().isoformat(), "model": model, "positions": positions, "keeps": keeps,
                    "turns": turns, "estimate": bare, "planned": planned, "over_estimate": shares,
                    "mmap_threshold": os.environ.get("MALLOC_MMAP_THRESHOLD_"), "torch": torch.__version__,
                })  # fmt: skip
                middle, how = statistics.median(t["bytes"] for t in turns), "kept" if keeps else "computed again"
                print(
                    f"{model}, {positions} positions, {how}: {middle / 2**20:.0f} MiB, "
                    f"{statistics.median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f}) of the estimate, "
                    f"{middle / planned:.2f} of what a run plans with",
                    flush=True,
                )
    return told


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["pocket"])
    parser.add_argument("--positions", type=int, nargs="+", default=[512, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    kept = json.loads(args.out.read_text()) if args.out.exists() else []
    args.out.write_text(json.dumps(kept + rows(args), indent=1) + "\n")


if __name__ == "__main__":
    main()
