"""Does the driver's memory stay flat over a million targets?

    python -m bench.flat_memory

A Parquet corpus on disk through intake, queue, rows and ledger in one process, without Ray: what a solver and a
verifier would say is made up in place. Memory is looked at with every committed part. Then a fresh process reads the
manifest back, as a resumed run does, and goes past all its rows. Writes bench/results/flat_memory-DATE.json.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.no_op import exact, resident_mib, solved, write_corpus
from bench.recipes import ROOT
from engine.frozen_lm import TokenRule
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.target import decode
from orchestrator.corpus import open_corpus
from orchestrator.corpus.intake import Accepted, Intake
from orchestrator.results.ledger import Ledger
from orchestrator.run.rows import RowContext, result_row
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue

OPEN = 2048
"""Texts in the queue at once, and rows of a part."""


def work_off(queue: WorkQueue, ledger: Ledger, context: RowContext) -> None:
    """Solve, judge and commit all that is open."""
    for job in queue.lease("solver-0", 2**62):
        queue.finish("solver-0", solved(job))
    for candidate in queue.take_candidates(OPEN):
        queue.judge(exact(candidate))
    ledger.commit([result_row(item, context) for item in queue.drain()])


def go_through(folder: Path) -> list[tuple[int, float]]:
    """Memory by the number of rows committed."""
    token_rule, recipe = TokenRule.load(ModelSource()), Recipe(num_vectors=1)
    queue, ledger = WorkQueue(make_retry(token_rule.context, grows=False)), Ledger(folder / "run")
    context = RowContext(recipe.hash, "no-op", "float32", partial(decode, token_rule))
    memory = []
    for number, item in enumerate(Intake(open_corpus(folder / "corpus.parquet"), token_rule, recipe).taken(), 1):
        assert isinstance(item, Accepted)
        queue.add(item.row, item.job)
        if queue.num_open == OPEN:
            work_off(queue, ledger, context)
            memory.append((number, round(resident_mib(), 1)))
    work_off(queue, ledger, context)
    return memory


def resume(folder: Path) -> dict:
    """What it takes to find that nothing is left to do."""
    token_rule, before = TokenRule.load(ModelSource()), resident_mib()
    started = time.process_time()
    committed = Ledger(folder / "run").committed_ids()
    manifest_s = time.process_time() - started
    intake = Intake(open_corpus(folder / "corpus.parquet"), token_rule, Recipe(num_vectors=1), skip=committed)
    assert list(intake.taken()) == []
    return {
        "rows": len(committed), "manifest_cpu_s": round(manifest_s, 1),
        "all_cpu_s": round(time.process_time() - started, 1), "added_mib": round(resident_mib() - before, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=1_000_000)
    default = ROOT / "bench" / "results" / f"flat_memory-{datetime.now(UTC):%Y-%m-%d}.json"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder) / "corpus.parquet", args.targets)
        with spawn.Pool(1) as first, spawn.Pool(1) as second:
            memory = first.apply(go_through, (Path(folder),))
            resumed = second.apply(resume, (Path(folder),))
    record = {"targets": args.targets, "resume": resumed, "mib_by_done": memory[:: max(1, len(memory) // 50)]}
    args.out.write_text(json.dumps(record) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
