"""vLLM and a solver on one card, as a run has them: who takes how much, whoever starts first, and what each costs the
other's speed.

    python -m bench.gpu.shared_card --model Qwen/Qwen3-0.6B --out shared_card.json      # an environment with vLLM
    python -m bench.gpu.shared_card --device cpu --engine hf --texts 2 --starts together    # each line

Two processes, sized by the sums of `orchestrator.sizing`: a solver that cannot take more than its bound, and a verifier
that is told its cache in bytes. Told are the card's free memory after each start against what was planned to be left,
what the solver came to take against its bound, and positions a second with the verifier idle and at work. Both have
worked before that is measured, and the verifier goes on until the solver has ended.

Owns: the order of events. Must not know: Ray, corpora of users.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.gpu.first_light import demo_texts
from engine.footprint import Footprint
from engine.frozen_lm import TokenRule
from engine.held import as_stored
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.slots import Job
from engine.target import Target, make_target
from orchestrator.cluster.nodes import Node
from orchestrator.fleet.resident_solver import COMPILE_AFTER_S, ResidentSolver
from orchestrator.fleet.verifier_actor import EngineSpec, make_verifier
from orchestrator.process.memory import Memory
from orchestrator.sizing.placement import place
from orchestrator.sizing.room import Room, Tenancy, need_of_stored, room_in
from orchestrator.sizing.table_size import SolverRoom
from orchestrator.verifiers.contract import Candidate

STARTS = ("solver first", "verifier first", "together")

held: dict[str, Any] = {}
"""What this process has loaded."""


def process() -> Executor:
    """A process that holds a model until it is shut down."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def load_solver(source: ModelSource, room: SolverRoom, dtype: str, device: str) -> float:
    began = time.perf_counter()
    held["solver"] = ResidentSolver(source, room, dtype=dtype, device=device, num_threads=1)
    held["solver"].load_model()
    return time.perf_counter() - began


def load_verifier(spec: EngineSpec) -> float:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # as in a run's actor: one process to watch
    began = time.perf_counter()
    held["verifier"] = make_verifier(spec)
    return time.perf_counter() - began


def find(jobs: list[Job], device: str) -> list[Candidate]:
    """What the solver finds, and a second time: what only first passes pay for is paid then, kernels, and on a card the
    compiling, which comes with the first call after so many seconds."""
    stepped, needed = 0.0, COMPILE_AFTER_S if device == "cuda" else 0.0
    while stepped <= needed:
        stepped += held["solver"].advance(jobs, 600.0).seconds
    told = held["solver"].advance(jobs, 600.0)
    return [
        Candidate(a.job.target.id, as_stored(a.prompt_KD), a.job.target.token_ids)
        for a in told.attempts
        if a.is_candidate
    ]


def solve(jobs: list[Job], device: str) -> dict[str, Any]:
    """How fast the solver is, and what its process holds of the card by then; it gives nothing back."""
    told = held["solver"].advance(jobs, 600.0)
    return {
        "positions_a_second": told.num_positions / told.seconds,
        "seconds": told.seconds,
        "table": told.table_positions,
        "reserved_bytes": torch.cuda.memory_reserved() if device == "cuda" else None,
        "shortage": told.shortage is not None,
    }


def judge(candidates: list[Candidate]) -> int:
    """How many are exact."""
    return sum(verdict.exact for verdict in held["verifier"].judge(candidates))


def keep_judging(candidates: list[Candidate], end: Path) -> int:
    """Judge over and over until there is a file of that name; how often that was."""
    times = 0
    while not end.exists():
        judge(candidates)
        times += 1
    return times


def load_both(solver: Callable[[], Future], verifier: Callable[[], Future], start: str) -> dict[str, float]:
    order = [("solver_s", solver), ("verifier_s", verifier)]
    loads: dict[str, Future] = {}
    for name, begin in reversed(order) if start == "verifier first" else order:
        loads[name] = begin()
        if start != "together":
            loads[name].result()
    return {name: load.result() for name, load in loads.items()}


def solve_beside(
    solving: Executor, judging: Executor, jobs: list[Job], candidates: list[Candidate], device: str
) -> dict[str, Any]:
    """As `solve`, with the verifier at work from before the first step until after the last."""
    with TemporaryDirectory() as folder:
        busy = judging.submit(keep_judging, candidates, end := Path(folder) / "end")
        try:
            beside = solving.submit(solve, jobs, device).result()
        finally:
            end.touch()
            judged = busy.result()  # before the file goes with its folder
    return beside | {"judged": judged}


def one_start(start: str, room: Room, jobs: list[Job], args: argparse.Namespace) -> dict[str, Any]:
    """Both are started, texts are found and proved, then solved again with the verifier idle and at work."""
    source, dtype, device = ModelSource(args.model), room.placement.dtype, args.device
    spec = EngineSpec(
        args.engine, args.model, None, dtype, room.served_length, device, room.memory_frac, room.cache
    )  # fmt: skip
    with ExitStack() as stack:
        solving, judging = (stack.enter_context(process()) for _ in range(2))
        loads = load_both(
            lambda: solving.submit(load_solver, source, room.placement.solver_room, dtype, device),
            lambda: judging.submit(load_verifier, spec),
            start,
        )
        free = solving.submit(Memory.here, device).result().free
        candidates = solving.submit(find, jobs, device).result()
        exact = judging.submit(judge, candidates).result()
        alone = solving.submit(solve, jobs, device).result()
        beside = solve_beside(solving, judging, jobs, candidates, device)
        return loads | {
            "free_after_start": free, "texts": len(jobs), "candidates": len(candidates), "exact": exact,
            "alone": alone, "beside": beside,
            "slowed_to": beside["positions_a_second"] / alone["positions_a_second"],
        }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--engine", default="vllm", choices=("vllm", "hf"))
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
    parser.add_argument("--out", type=Path, default=Path("shared_card.json"))
    args = parser.parse_args(argv)
    source = ModelSource(args.model)
    rule = TokenRule.load(source)
    made = [make_target(rule, str(number), text) for number, text in enumerate(demo_texts(args.texts))]
    jobs = [Job(t, Recipe(), max(1, len(t.token_ids) // 2)) for t in made if isinstance(t, Target)]
    with process() as asked:  # it opens a context on the card, which goes with it
        memory = asked.submit(Memory.here, args.device).result()
    placement = place([Node("here", 1, 1.0 if args.device == "cuda" else 0.0, is_draining=False)])
    need = need_of_stored([job.num_positions + 1 for job in jobs])
    footprint = Footprint.of(source, rule.context)
    room = room_in(memory, Tenancy(source, placement, placement.dtype, placement.dtype), 1, need, footprint)
    told: dict[str, Any] = {
        "model": args.model, "engine": args.engine, "total": memory.total, "free": memory.free,
        "solver_bound": room.placement.solver_bytes, "cache_bytes": room.cache.num_bytes,
        "engine_frac": room.memory_frac, "table": room.placement.table_positions,
    }  # fmt: skip
    for start in args.starts:
        try:
            told[start] = one_start(start, room, jobs, args)
        except Exception as error:  # the other orders still tell something
            told[start] = {"failed": f"{type(error).__name__}: {error}"[:500]}
        print(f"{start}: {told[start]}", flush=True)
        args.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
