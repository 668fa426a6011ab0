"""How many solvers can one driver feed?

    python -m bench.saturation bench/results/overhead-DATE.json

A simulation in virtual time: solvers that take a second a text, the real work queue, and a driver that spends on every
event what bench/overhead.py measured. It knows neither network nor disk. Writes bench/results/saturation-DATE.json.
"""

import argparse
import heapq
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.no_op import exact, solved
from bench.recipes import ROOT
from engine.recipe import Recipe
from engine.slots import Job
from engine.target import Target
from orchestrator.dispatch.dispatcher import ANSWERS_A_TURN, OPEN_PER_SOLVER, OPEN_WINDOW, Tempo
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue

TABLE = 4096
"""Read positions of the table of a solver that is not there."""

TEXT_S = 1.0
NUM_VECTORS, NUM_TOKENS = 8, 25
LOOK_S = 2e-6
"""What a turn of the loop spends on a solver that has not answered: the feeding loop and its place in `ray.wait`."""

SLICE_S = Tempo.slice_s
RECIPE = Recipe(num_vectors=NUM_VECTORS)


@dataclass(frozen=True)
class Costs:
    """Seconds of the driver."""

    call: float
    target: float


@dataclass
class Simulation:
    """A fleet and its driver.

    Attributes:
        window: texts open at once.
        slice_s: seconds a solver computes before it reports.
        clock: virtual seconds.
    """

    num_solvers: int
    window: int
    slice_s: float
    costs: Costs
    clock: float = 0.0
    num_done: int = 0
    _queue: WorkQueue = field(default_factory=lambda: WorkQueue(make_retry(1024, grows=False)))
    _num_added: int = 0
    _held: dict[str, list[Job]] = field(default_factory=dict)
    _answers: list[tuple[float, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._held = {f"solver-{index}": [] for index in range(self.num_solvers)}
        self._idle = set(self._held)

    def run_until(self, end: float) -> None:
        """The driver's loop: fill, feed, wait, route."""
        while self.clock < end:
            while self._queue.num_open < self.window:
                target = Target(f"text-{self._num_added}", "", tuple(range(NUM_TOKENS)))
                self._queue.add(self._num_added, Job(target, RECIPE, NUM_VECTORS))
                self._num_added += 1
            for name in sorted(self._idle):
                self._feed(name)
            self.clock = max(self.clock + LOOK_S * self.num_solvers, self._answers[0][0])
            for _ in range(ANSWERS_A_TURN):
                if self._answers and self._answers[0][0] <= self.clock:
                    self._route(*heapq.heappop(self._answers))

    def _feed(self, name: str) -> None:
        room = 2 * TABLE - self._queue.leased_positions(name)
        self._held[name] += self._queue.lease(name, room)
        if self._held[name]:
            num_texts = min(len(self._held[name]), max(1, int(self.slice_s / TEXT_S)))
            heapq.heappush(self._answers, (self.clock + num_texts * TEXT_S, name, num_texts))
            self._idle.remove(name)

    def _route(self, _: float, name: str, num_texts: int) -> None:
        self.clock += self.costs.call + num_texts * self.costs.target
        for job in self._held[name][:num_texts]:
            self._queue.finish(name, solved(job))
        del self._held[name][:num_texts]
        for candidate in self._queue.take_candidates(num_texts):
            self._queue.judge(exact(candidate))
        self._queue.drain()
        self.num_done += num_texts
        self._idle.add(name)


def measure(num_solvers: int, window: int, slice_s: float, costs: Costs, seconds: float) -> dict:
    """Texts a second and the share of the solvers' time that is spent solving, once the fleet is under way."""
    simulation = Simulation(num_solvers, window, slice_s, costs)
    simulation.run_until(seconds)
    started, done = simulation.clock, simulation.num_done
    simulation.run_until(started + 2 * seconds)
    rate = (simulation.num_done - done) / (simulation.clock - started)
    busy = min(1.0, rate * TEXT_S / num_solvers)
    return {
        "solvers": num_solvers,
        "window": window,
        "slice_s": slice_s,
        "a_second": round(rate),
        "busy": round(busy, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overhead", type=Path)
    parser.add_argument("--solvers", type=int, nargs="*", default=[125, 250, 500, 1000, 2000, 4000])
    parser.add_argument("--seconds", type=float, default=20.0)
    default = ROOT / "bench" / "results" / f"saturation-{datetime.now(UTC):%Y-%m-%d}.json"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    measured = json.loads(args.overhead.read_text())
    target = measured["runs"][-1]["driver_cpu_us_a_target"]
    costs = Costs(call=1e-6 * (measured["calls"]["driver_cpu_us_a_target"] - target), target=1e-6 * target)
    rows = []
    for num_solvers in args.solvers:
        following = max(OPEN_WINDOW, OPEN_PER_SOLVER * num_solvers)
        for window, slice_s in (
            (following, Tempo.slice_s),
            (following, 5 * Tempo.slice_s),
            (OPEN_WINDOW, Tempo.slice_s),
        ):
            rows.append(measure(num_solvers, window, slice_s, costs, args.seconds))
            print(rows[-1], flush=True)
    record = {"call_us": round(1e6 * costs.call), "target_us": round(1e6 * costs.target), "rows": rows}
    args.out.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
