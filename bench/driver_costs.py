"""Where do the driver's microseconds a text go, and what do they owe to the size of a prompt?

    python -m bench.driver_costs

The steps that a text takes, one after another in one process, without Ray. The driver's: what would arrive from a
solver is unpickled, its prompts elsewhere, goes through the queue, to the verifier and back, becomes a row and goes to
who writes the part. The writer's: rows and prompts become a part. Once with prompts of the embedded model's size and
once with those of a 7B. Processor time, the least of several rounds, since the machine may have other work: what a step
takes with its memory at hand. What Ray takes for a call and for a reference, one a block of prompts, is not in it.
Writes bench/results/driver_costs-DATE.json.
"""

import argparse
import json
import pickle
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from bench.no_op import exact, solved
from bench.recipes import ROOT
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from engine.target import Target
from orchestrator.fleet.blocks import placed, taken_out
from orchestrator.results.ledger import PROMPT, SCHEMA
from orchestrator.results.part_file import write_parquet
from orchestrator.run.rows import RowContext, flat, result_row
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue

NUM_TOKENS = 25
SIZES = ((8, 256, 1024), (16, 4096, 128))
"""Vectors, hidden size, texts of a round: a part of a busy run."""

CONTEXT = RowContext("recipe", "no-op", "float32", says=lambda ids: "")


class Clock:
    """Processor time of named steps, in microseconds a text, the least of all rounds."""

    def __init__(self, num_texts: int):
        self._num_texts = num_texts
        self.steps: dict[str, float] = {}

    def time(self, name: str, step: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = step()
        took = 1e6 * (time.process_time() - began) / self._num_texts
        self.steps[name] = round(min(took, self.steps.get(name, took)), 1)
        return result


def sent(value: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """As Ray sends it: large arrays beside the message."""
    buffers: list[pickle.PickleBuffer] = []
    return pickle.dumps(value, protocol=5, buffer_callback=buffers.append), buffers


def go_through(clock: Clock, jobs: list[Job], attempts: list[Attempt]) -> None:
    """One round."""
    queue = WorkQueue(make_retry(1024, grows=False))
    without, block = taken_out(attempts)
    message, _ = sent(without)
    clock.time(
        "queue: add, lease", lambda: [queue.add(row, job) for row, job in enumerate(jobs)] + queue.lease("w", 10**12)
    )
    arrived = clock.time("attempt: unpickle, place", lambda: placed(pickle.loads(message), "a reference"))
    clock.time("queue: finish", lambda: [queue.finish("w", attempt) for attempt in arrived])
    candidates = queue.take_candidates(len(jobs))
    clock.time("candidate: pickle", lambda: sent(candidates))
    clock.time("queue: judge", lambda: [queue.judge(exact(candidate)) for candidate in candidates])
    rows = clock.time("row", lambda: [result_row(item, CONTEXT) for item in queue.drain()])
    clock.time("row: pickle", lambda: sent(rows))
    whole = [row | {PROMPT: flat(block[row[PROMPT].index])} for row in rows]
    table = clock.time("writer: table", lambda: pa.Table.from_pylist(whole, schema=SCHEMA))
    clock.time("writer: Parquet", lambda: write_parquet([table], pa.BufferOutputStream()))


def measure(num_vectors: int, hidden_size: int, num_texts: int, rounds: int) -> dict:
    recipe, clock = Recipe(num_vectors=num_vectors), Clock(num_texts)
    targets = [
        Target(f"text-{i}", "A sentence of some length. " * 4, tuple(range(NUM_TOKENS))) for i in range(num_texts)
    ]
    jobs = [Job(target, recipe, num_vectors) for target in targets]
    attempts = [solved(job, hidden_size) for job in jobs]
    for _ in range(rounds):
        go_through(clock, jobs, attempts)
    writer = sum(took for name, took in clock.steps.items() if name.startswith("writer"))
    driver = sum(clock.steps.values()) - writer
    totals = {"driver_us": round(driver, 1), "writer_us": round(writer, 1)}
    return {"vectors": num_vectors, "hidden_size": hidden_size, "steps_us": clock.steps, **totals}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    default = ROOT / "bench" / "results" / f"driver_costs-{datetime.now(UTC):%Y-%m-%d}.json"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    record = {"tokens": NUM_TOKENS, "rounds": args.rounds, "sizes": [measure(*size, args.rounds) for size in SIZES]}
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
