"""Where the time of texts found and proved goes: the model, the host's work between, the proof.

    python -m bench.time_shares --model pocket

Owns: the clocks. Must not know: Ray, other methods. On a processor, where a call returns when it is done: on a GPU the
host waits for the device in one place only, and `bench.gpu.first_light` tells the two apart.

The model's seconds are those inside its body, its head and their backward; the host's are the rest of the solver's.
"""

import argparse
import datetime
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bench.peers import Found, noise
from bench.recipes import ROOT, pick_targets
from bench.speed import judge, verifier_of
from engine.frozen_lm import FrozenLM
from engine.head import Head
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target
from orchestrator.verifiers.contract import SLACK_TOKENS, Verifier

RESULTS = ROOT / "bench" / "results" / "time_shares.json"


@contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds inside the model so far, in a list of one."""
    spent = [0.0]

    def timing(function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[0] += time.perf_counter() - began

        return call

    with (
        mock.patch.object(FrozenLM, "read_rows", timing(FrozenLM.read_rows)),
        mock.patch.object(Head, "score", timing(Head.score)),
        mock.patch.object(torch.autograd, "grad", timing(torch.autograd.grad)),
    ):
        yield spent


def turn(lm: FrozenLM, verifier: Verifier, targets: list[Target], args: argparse.Namespace) -> dict[str, float]:
    solver, attempts, slot_steps = Solver(lm, table_positions=args.table), [], 0
    for target in targets:
        solver.submit(Job(target, Recipe(), args.vectors))
    began = time.perf_counter()
    with timed() as spent:
        while not solver.is_idle:
            attempts += (ended := solver.step())
            slot_steps += len(solver.active) + len(ended)
    solved_s = time.perf_counter() - began
    prompts = {attempt.job.target.id: attempt.prompt_KD for attempt in attempts if attempt.is_candidate}
    exact = judge(verifier, targets, Found(prompts))
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds, "exact": exact, "slot_steps": slot_steps, "model": spent[0] / seconds,
        "host": (solved_s - spent[0]) / seconds, "proof": (seconds - solved_s) / seconds,
        "host_ms_a_slot_and_step": 1000 * (solved_s - spent[0]) / slot_steps,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--corpus", default="demo", help="a file of corpora/")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--vectors", type=int, default=16)
    parser.add_argument("--table", type=int, default=1536)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=("vllm", "hf"), default="vllm")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    args.device = "cpu"
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    source = ModelSource(args.model)
    lm = FrozenLM.load(source)
    targets = pick_targets(lm, args.corpus, args.texts, (1, 60))
    longest = max(len(target.token_ids) for target in targets) + args.vectors + 1 + SLACK_TOKENS
    verifier = verifier_of(args, source, longest)
    torch.set_num_threads(args.threads)  # an engine sets its own
    judge(verifier, targets, Found({t.id: noise(lm, 1) for t in targets}))  # the first call of a process takes longer
    turns = [turn(lm, verifier, targets, args) for _ in range(args.repeats)]
    for name in ("model", "host", "proof", "host_ms_a_slot_and_step"):
        values = [each[name] for each in turns]
        print(f"{args.model}, {name}: {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")
    kept = json.loads(args.out.read_text()) if args.out.exists() else []
    kept.append({
        "date": datetime.date.today().isoformat(), "model": args.model, "engine": verifier.engine,
        "corpus": args.corpus, "texts": len(targets), "num_vectors": args.vectors, "threads": args.threads,
        "turns": turns, "torch": torch.__version__,
    })  # fmt: skip
    args.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
