"""What the solver's cost grows with: a sub-command a question, told as ratios to the first value with their spread.

    python -m bench.scaling slots --model pocket --values 64 256 512 1536
    python -m bench.scaling length --model smollm2 --values 8 16 32
    python -m bench.scaling vectors --values 4 8 16 32
    python -m bench.scaling vocabulary --model smollm2 --values 6144 12288 24576 49152
    python -m bench.scaling refill --values 512 1536
    python -m bench.scaling solvers --values 1 2

- slots: positions a second against positions in the table, a full table of unlike lengths. - length, vectors: positions
that a text takes to its margin, over its tokens: real texts of so many tokens at K = T/4, and of 16 to 32 tokens at so
many vectors. - vocabulary: seconds of a step against the rows that the head has. - refill: slot-steps that belong to a
text still under way, over all that a table of so many positions has until the last text is admitted; and the same where
a full table waits for its slowest text. - solvers: texts an hour of processes that share all threads.

Owns: the questions. `length`, `vectors` and `refill` are counted, so that a busy machine does not enter; the others are
timed, the values taking turns. Must not know: Ray, verification.
"""

import argparse
import datetime
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from bench.recipes import ROOT, pick_targets
from bench.steady_state import Machine, jobs, steady_state
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target

RESULTS = ROOT / "bench" / "results" / "scaling.json"
NO_CEILING = Machine("cpu", "cpu", 0, product=1.0, product_float32=1.0)
Turns = dict[int, list[float]]
"""A number for every turn, or for every text, by value."""


def in_turns(args: argparse.Namespace, run: Callable[[int], float]) -> Turns:
    """Every value once a turn, so that a machine that slows down slows all of them."""
    turns: Turns = {value: [] for value in args.values}
    for _ in range(args.repeats):
        for value in args.values:
            turns[value].append(run(value))
    return turns


def slots(args: argparse.Namespace) -> Turns:
    """Positions a second."""
    lm = loaded(args)

    def rate(table: int) -> float:
        told = steady_state(lm, NO_CEILING, table, "mixed", warm=1, steps=args.steps)
        return told["positions_a_second"]

    return in_turns(args, rate)


def vocabulary(args: argparse.Namespace) -> Turns:
    """Seconds of a step of a full table."""
    lm = loaded(args)
    whole = lm.head

    def step_s(rows: int) -> float:
        weight_VD = whole.weight_VD[:rows]
        lm.head = replace(whole, weight_VD=weight_VD, bias_V=None if whole.bias_V is None else whole.bias_V[:rows])
        vars(lm).pop("reach", None)  # the other head's
        solver = Solver(lm, table_positions=args.table)
        for job in jobs(lm, args.table, "equal"):
            ids = tuple(token % rows for token in job.target.token_ids)
            solver.submit(replace(job, target=replace(job.target, token_ids=ids)))
        solver.step()
        began = time.perf_counter()
        for _ in range(args.steps):
            solver.step()
        return (time.perf_counter() - began) / args.steps

    return in_turns(args, step_s)


def length(args: argparse.Namespace) -> Turns:
    """Positions over tokens, of every text."""
    lm = loaded(args)
    return {value: work(lm, args, (value, value + value // 4)) for value in args.values}


def vectors(args: argparse.Namespace) -> Turns:
    """The same."""
    lm = loaded(args)
    return {value: work(lm, args, (16, 32), num_vectors=value) for value in args.values}


def work(
    lm: FrozenLM, args: argparse.Namespace, lengths: tuple[int, int], num_vectors: int | None = None
) -> list[float]:
    targets = pick_targets(lm, args.corpus, args.texts, lengths)
    made = jobs_of(targets, args.max_steps, num_vectors)
    attempts = Solver(lm, table_positions=args.table).solve(made)
    print(
        f"  {lengths} tokens: {sum(a.has_margin for a in attempts)} of {len(attempts)} reached their margin", flush=True
    )
    return [attempt.positions / len(attempt.job.target.token_ids) for attempt in attempts]


def jobs_of(targets: list[Target], max_steps: int, num_vectors: int | None = None) -> list[Job]:
    """A vector for every four tokens if nothing else is said."""
    recipe = Recipe(max_steps=max_steps)
    return [Job(target, recipe, num_vectors or max(1, len(target.token_ids) // 4)) for target in targets]


def refill(args: argparse.Namespace) -> Turns:
    """Useful share of all slot-steps, in positions: refilled, then waiting."""
    lm = loaded(args)
    targets = pick_targets(lm, args.corpus, args.texts, (1, 60))
    return {table: list(useful(lm, targets, table, args.max_steps)) for table in args.values}


def useful(lm: FrozenLM, targets: list[Target], table: int, max_steps: int) -> Iterator[float]:
    made = jobs_of(targets, max_steps)
    solver, filled, taken = Solver(lm, table_positions=table), [], {}
    for job in made:
        solver.submit(job)
    while not solver.is_idle:
        ended = solver.step()
        taken |= {attempt.job.key: attempt.steps + 1 for attempt in ended}
        if solver.waiting:
            under_way = [slot.job for slot in solver.active] + [attempt.job for attempt in ended]
            filled.append(sum(job.num_positions for job in under_way) / table)
    yield statistics.fmean(filled) if filled else 1.0
    passed, useful_positions = 0, 0
    for batch in batches(made, table):
        passed += sum(job.num_positions for job in batch) * max(taken[job.key] for job in batch)
        useful_positions += sum(job.num_positions * taken[job.key] for job in batch)
    yield useful_positions / passed


def batches(made: list[Job], table: int) -> Iterator[list[Job]]:
    """Jobs in their order, as many as a table holds."""
    batch: list[Job] = []
    for job in made:
        if batch and sum(other.num_positions for other in batch) + job.num_positions > table:
            yield batch
            batch = []
        batch.append(job)
    yield batch


def solvers(args: argparse.Namespace) -> Turns:
    """Texts an hour, the loading of models apart."""
    return in_turns(args, lambda number: together(args, number))


def together(args: argparse.Namespace, number: int) -> float:
    each = max(1, args.threads // number)
    context = get_context("spawn")
    barrier = context.Barrier(number)
    with ProcessPoolExecutor(number, mp_context=context, initializer=begin, initargs=(barrier,)) as processes:
        parts = [processes.submit(solve_part, args, each, part, number) for part in range(number)]
        spans = [part.result() for part in parts]
    solved = sum(count for count, _, _ in spans)
    return 3600 * solved / (max(ended for _, _, ended in spans) - min(began for _, began, _ in spans))


_barrier = None


def begin(barrier) -> None:
    global _barrier
    _barrier = barrier


def solve_part(args: argparse.Namespace, threads: int, part: int, number: int) -> tuple[int, float, float]:
    """In a process of its own, at the same time as the others: texts solved, when it began and when it ended."""
    torch.set_num_threads(threads)
    lm = FrozenLM.load(ModelSource(args.model))
    targets = pick_targets(lm, args.corpus, args.texts, (1, 60))[part::number]
    assert _barrier is not None
    _barrier.wait()
    began = time.time()
    attempts = Solver(lm, table_positions=args.table).solve(jobs_of(targets, args.max_steps))
    return sum(attempt.is_candidate for attempt in attempts), began, time.time()


QUESTIONS: dict[str, tuple[Callable[[argparse.Namespace], Turns], tuple[int, ...]]] = {
    "slots": (slots, (64, 256, 512, 1536)), "length": (length, (8, 16, 32)), "vectors": (vectors, (4, 8, 16, 32)),
    "vocabulary": (vocabulary, (512, 1024, 2048, 4096)), "refill": (refill, (512, 1536)), "solvers": (solvers, (1, 2)),
}  # fmt: skip
"""By name, and the values if none are given."""


def loaded(args: argparse.Namespace) -> FrozenLM:
    torch.set_num_threads(args.threads)
    return FrozenLM.load(ModelSource(args.model))


def ratios(question: str, turns: Turns) -> dict[int, tuple[float, float, float]]:
    """Of each value to the first: median, least, most. Turns are compared one by one, texts by their medians."""
    if question == "refill":  # shares already
        return {value: (refilled, waiting, refilled / waiting) for value, (refilled, waiting) in turns.items()}
    first = next(iter(turns.values()))
    told = {}
    for value, numbers in turns.items():
        is_counted = question in ("length", "vectors")
        base = [statistics.median(first)] * len(numbers) if is_counted else first
        each = [number / other for number, other in zip(numbers, base, strict=True)]
        told[value] = (statistics.median(each), min(each), max(each))
    return told


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=list(QUESTIONS))
    parser.add_argument("--values", type=int, nargs="+", help="of what is varied")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--corpus", default="demo", help="a file of corpora/")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--table", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3, help="timed at a time")
    parser.add_argument("--max-steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    ask, usual = QUESTIONS[args.question]
    args.values = args.values or list(usual)
    turns = ask(args)
    told = ratios(args.question, turns)
    for value, numbers in turns.items():
        names = (
            "refilled {:.3f}, waiting {:.3f}, {:.2f} times"
            if args.question == "refill"
            else "{:.2f} ({:.2f} to {:.2f})"
        )
        print(f"{args.model}, {args.question} {value}: {statistics.median(numbers):.4g}, {names.format(*told[value])}")
    kept = json.loads(args.out.read_text()) if args.out.exists() else []
    kept.append({
        "date": datetime.date.today().isoformat(), "question": args.question, "model": args.model,
        "threads": args.threads, "corpus": args.corpus, "table": args.table, "turns": turns, "ratios": told,
        "torch": torch.__version__,
    })  # fmt: skip
    args.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
