"""What do a solver's checkpoints take of the driver, and what did they when it wrote them itself?

    python -m bench.checkpoint_costs

One actor that answers as a solver does, with a checkpoint for each of its texts (values and two moments of a soft
prompt), on a real Ray. Three ways, in turn: the product's, references to a task that writes the files; the same where
the solver is on another node, and a task copies them first; and the one of before, bytes to the driver, which writes
them. Counted is the driver's processor time from the answer until the files are there, in microseconds a checkpoint,
its threads included: the least of several rounds. Files go to a folder in memory where there is one, so that no disk is
measured. Writes bench/results/checkpoint_costs.json.
"""

import argparse
import json
import resource
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch

from bench.recipes import ROOT
from engine.checkpoint import Checkpoint, to_bytes
from engine.recipe import Recipe
from engine.slots import Job
from engine.target import Target
from orchestrator.cluster.nodes import Home
from orchestrator.fleet import workers
from orchestrator.fleet.blocks import states_placed, states_taken_out
from orchestrator.results.in_flight import FOLDER, InFlight, file_of
from orchestrator.run.keeping import Keeping

SIZES = ((8, 256, 256), (16, 4096, 64))
"""Vectors, hidden size, texts in the table."""

NUM_TOKENS = 25
IN_MEMORY = Path("/dev/shm")


@ray.remote(num_cpus=0)
class Solver:
    """Has checkpoints of texts that it never moves on."""

    def __init__(self, num_vectors: int, hidden_size: int, num_texts: int):
        values = [torch.randn(num_vectors, hidden_size) for _ in range(3)]
        self._checkpoints = {}
        for i in range(num_texts):
            job = Job(Target(f"text-{i}", "", tuple(range(NUM_TOKENS))), Recipe(num_vectors=num_vectors), num_vectors)
            self._checkpoints[job.key] = to_bytes(Checkpoint(job, [{"values": values}]))

    @ray.method(num_returns=2)
    def by_reference(self) -> Any:
        """As `SolverActor.advance`."""
        return states_taken_out(self._checkpoints)

    def whole(self) -> dict[str, bytes]:
        """As it was."""
        return self._checkpoints


def driver_s() -> float:
    """Processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def by_a_task(solver: Any, folder: Path, home: Home | None) -> int:
    told, block = solver.by_reference.remote()
    states = states_placed(ray.get(told), block, home)
    keeping = Keeping(InFlight(folder))
    keeping.keep(dict(enumerate(states.values())))
    keeping.settle(60.0)
    return sum(map(len, states.values()))


def by_the_driver(solver: Any, folder: Path) -> int:
    contents: dict[str, bytes] = ray.get(solver.whole.remote())
    files = {f"{FOLDER}/{file_of(row)}": content for row, content in enumerate(contents.values())}
    InFlight(folder).storage.replace(files)
    return sum(map(len, contents.values()))


def measure(num_vectors: int, hidden_size: int, num_texts: int, rounds: int) -> dict[str, Any]:
    solver: Any = Solver.remote(num_vectors, hidden_size, num_texts)
    row: dict[str, Any] = {"vectors": num_vectors, "hidden_size": hidden_size, "texts": num_texts}
    here = Home(ray.get_runtime_context().get_node_id(), 0, "")
    ways = {
        "task_us": partial(by_a_task, home=here),
        "copy_and_task_us": partial(by_a_task, home=None),
        "driver_us": by_the_driver,
    }
    for _ in range(rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
                began = driver_s()
                num_bytes = way(solver, Path(folder))
                took = 1e6 * (driver_s() - began) / num_texts
                assert len(list((Path(folder) / FOLDER).iterdir())) == num_texts
            row["mib"] = round(num_bytes / 2**20, 1)
            row[name] = round(min(took, row.get(name, took)), 1)
    ray.kill(solver)
    return row


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "checkpoint_costs.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    workers.connect(None, dashboard=False)
    record = {"rounds": args.rounds, "sizes": [measure(*size, args.rounds) for size in SIZES]}
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    ray.shutdown()


if __name__ == "__main__":
    main()
