"""What does the driver cost for every target?

    python -m bench.overhead
    python -m bench.overhead --vectors 16 --hidden-size 4096 --solvers 8 --verifiers 4 --targets 20000

A real run on a real Ray, from a Parquet corpus on disk to committed parts, in which solvers and verifier do nothing:
the real driver, queue, intake, watch and ledger, for 1, 2, 4 and 8 solvers. The actors share the machine's cores with
the driver, so targets a second are a lower bound; the driver's own CPU time a target depends on that much less.
Solvers that give one job back a call tell the cost of a call from the cost of a target.
Writes bench/results/overhead-DATE.json.
"""

import argparse
import json
import os
import pickle
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from bench.no_op import D, NoOpSolver, NoOpVerifier, exact, resident_mib, solved, write_corpus
from bench.recipes import ROOT
from engine.frozen_lm import TokenRule
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.target import decode
from orchestrator.console.progress import make_reporter
from orchestrator.corpus import open_corpus
from orchestrator.corpus.intake import Accepted, Intake
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.metrics import Metrics
from orchestrator.dispatch.watch import Watch
from orchestrator.fleet import workers
from orchestrator.fleet.answers import Advance
from orchestrator.fleet.blocks import taken_out
from orchestrator.fleet.roster import Roster
from orchestrator.fleet.worker import Worker
from orchestrator.results.in_flight import InFlight
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_log import RunLog
from orchestrator.run.corpus_source import CorpusSource
from orchestrator.run.keeping import Keeping
from orchestrator.run.ledger_sink import LedgerSink
from orchestrator.run.rows import RowContext
from orchestrator.sizing.sharing import KINDS
from orchestrator.work.item import State
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue


@dataclass(frozen=True)
class Fleet:
    """Actors that do nothing, and the prompts that they make.

    Attributes:
        jobs_a_call: that a solver gives back at once; None is all it has.
    """

    num_solvers: int
    num_verifiers: int = 1
    num_vectors: int = 8
    hidden_size: int = D
    jobs_a_call: int | None = None

    def solver(self) -> Any:
        """Start one."""
        return NoOpSolver.remote(self.jobs_a_call, self.hidden_size)


def measure(num_targets: int, fleet: Fleet) -> dict:
    """One run in this process: wall and CPU seconds of the loop, and the driver's memory at every commit."""
    memory = []
    with tempfile.TemporaryDirectory() as folder:
        driver, sink = make_driver(Path(folder), num_targets, fleet)
        sink.on_commit = lambda _: memory.append((sink.num_done, round(resident_mib(), 1)))
        wall, cpu = time.monotonic(), time.process_time()
        with driver.watch.log:
            driver.run()
            sink.settle(driver)
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        assert driver.queue.counts == {State.VERIFIED: num_targets}
        assert sum(entry["rows"] for entry in sink.ledger.entries()) == num_targets
        for worker in driver.roster.all:
            ray.kill(worker.actor)
    return {
        "solvers": fleet.num_solvers, "verifiers": fleet.num_verifiers, "vectors": fleet.num_vectors,
        "hidden_size": fleet.hidden_size, "targets": num_targets, "jobs_a_call": fleet.jobs_a_call,
        "seconds": round(wall, 2),
        "targets_a_second": round(num_targets / wall), "driver_cpu_us_a_target": round(1e6 * cpu / num_targets, 1),
        "peak_mib": max(mib for _, mib in memory), "commits": len(memory),
        "mib_by_done": memory[:: max(1, len(memory) // 20)],
    }  # fmt: skip


def make_driver(folder: Path, num_targets: int, fleet: Fleet) -> tuple[Dispatcher, LedgerSink]:
    """The driver as `verbatim run` makes it, its actors aside."""
    write_corpus(folder / "corpus.parquet", num_targets)
    token_rule, recipe = TokenRule.load(ModelSource()), Recipe(num_vectors=fleet.num_vectors)
    out = folder / "run"
    out.mkdir()
    roster = Roster(
        hire=lambda index: Worker(
            f"solver-{index}", lambda _: NoOpSolver.remote(fleet.jobs_a_call, fleet.hidden_size), "bench"
        ),
        hire_verifier=lambda index: Worker(f"verifier-{index}", lambda _: NoOpVerifier.remote(), "bench"),
        num_solvers=fleet.num_solvers,
        num_verifiers=fleet.num_verifiers,
        say=lambda _: None,
    )
    for worker in list(roster.calls.values()):
        roster.take_in(worker)
    watch, keeping = Watch(Metrics("bench"), RunLog(out)), Keeping(InFlight(out))
    reporter = make_reporter(Console(quiet=True), num_targets)
    context = RowContext(recipe.hash, "no-op", "float32", partial(decode, token_rule))
    sink = LedgerSink(Ledger(out), keeping, context, reporter, on_commit=lambda _: None)
    taken = Intake(open_corpus(folder / "corpus.parquet"), token_rule, recipe).taken()
    driver = Dispatcher(
        source=CorpusSource(taken, keeping.in_flight, reporter.say, watch),
        sink=sink,
        queue=WorkQueue(make_retry(token_rule.context, grows=False)),
        roster=roster,
        watch=watch,
        say=reporter.say,
        table_positions=KINDS["cpu"].most_positions,
    )
    return driver, sink


def bytes_moved(fleet: Fleet, num_targets: int = 256) -> dict[str, int]:
    """Bytes a target on each way between the driver and its actors."""
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder) / "corpus.parquet", num_targets)
        recipe = Recipe(num_vectors=fleet.num_vectors)
        intake = Intake(open_corpus(Path(folder) / "corpus.parquet"), TokenRule.load(ModelSource()), recipe)
        jobs = [item.job for item in islice(intake.taken(), num_targets) if isinstance(item, Accepted)]
    queue = WorkQueue(make_retry(1024, grows=False))
    for row, job in enumerate(jobs):
        queue.add(row, job)
    attempts, _ = taken_out([solved(job, fleet.hidden_size) for job in queue.lease("w", 10**9)])
    advance = Advance(attempts, 0, 0, 0.0, 0.0, 10**9)
    for attempt in advance.attempts:
        queue.finish("w", attempt)
    candidates = queue.take_candidates(num_targets)
    verdicts = [exact(candidate) for candidate in candidates]
    ways = {"jobs": jobs, "attempts": advance, "candidates": candidates, "verdicts": verdicts}
    return {name: round(len(pickle.dumps(value, protocol=5)) / num_targets) for name, value in ways.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=100_000)
    parser.add_argument("--solvers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--verifiers", type=int, default=1)
    parser.add_argument("--vectors", type=int, default=8)
    parser.add_argument("--hidden-size", type=int, default=D)
    parser.add_argument("--calls", type=int, default=2_000, help="calls of one job each, for the cost of a call")
    default = ROOT / "bench" / "results" / f"overhead-{datetime.now(UTC):%Y-%m-%d}.json"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args(argv)
    fleets = [Fleet(number, args.verifiers, args.vectors, args.hidden_size) for number in args.solvers]
    record = {"cores": os.cpu_count(), "bytes_a_target": bytes_moved(fleets[-1]), "runs": [], "calls": None}
    workers.connect(None, dashboard=False)
    for fleet in fleets:
        record["runs"].append(measure(args.targets, fleet))
        print({key: value for key, value in record["runs"][-1].items() if key != "mib_by_done"}, flush=True)
    record["calls"] = measure(args.calls, replace(fleets[-1], jobs_a_call=1))
    print({key: value for key, value in record["calls"].items() if key != "mib_by_done"}, flush=True)
    ray.shutdown()
    args.out.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
