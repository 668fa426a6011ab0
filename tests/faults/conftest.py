"""Fixtures of the faults: one cluster for all, runs on it that can be killed, orders to die for their actors."""

import contextlib
import itertools
import json
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.audit import Audit
from orchestrator.process import fail_points
from orchestrator.results.run_log import read_events
from tests.faults import driver
from tests.ray_cluster import Cluster, ray_cluster

PATIENCE_S = 240

WORDS = (
    ("The cat", "A dog", "Nobody"),
    ("sat", "ran", "slept", "sang"),
    ("here", "there", "inside", "outside"),
    ("now.", "then.", "too.", "alone.", "again."),
)
TEXTS = {f"text-{number}": " ".join(words) for number, words in enumerate(itertools.product(*WORDS))}
"""More than the driver commits at once: a run is not over with its first commit."""

# Slow on purpose, and whatever the defaults are: a run that ends too soon cannot be killed.
SETTINGS = [
    *("--engine", "hf", "--no-dashboard", "--table-positions", "160", "--log-level", "debug"),
    *("--set", "num_vectors=8", "--set", "max_steps=300", "--set", "start.name=random", "--set", "optim.lr=0.3"),
    *("--set", "optim.name=adam", "--set", "optim.beta2=0.9", "--set", "loss.name=violation_mix"),
]


@dataclass
class Orders:
    """Orders to die, for the cluster's processes and for drivers."""

    folder: Path

    def give(self, point: str, what: object) -> None:
        """In one step: a process may look at any time."""
        (self.folder / ".tmp").write_text(str(what))
        (self.folder / ".tmp").rename(self.folder / point)

    @property
    def open(self) -> set[str]:
        """Points where nobody has died yet."""
        return {path.name for path in self.folder.iterdir()}

    def withdraw(self) -> None:
        """For the next test."""
        for path in self.folder.iterdir():
            path.unlink()


def wait_until(condition: Callable[[], Any], goes_on: Callable[[], bool] = lambda: True) -> Any:
    """The first true answer."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and goes_on():
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise TimeoutError


@dataclass
class Call:
    """One call of `verbatim run`."""

    process: Any
    said: Path
    root: psutil.Process

    @property
    def output(self) -> str:
        return self.said.read_text()

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """The first true answer while the call goes on."""
        try:
            return wait_until(condition, self.process.is_alive)
        except TimeoutError:
            code = self.process.exitcode
            raise AssertionError(f"the run did not get there, exit code {code}: {self.output}") from None

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> int:
        """Its exit code, once it and its actors are gone."""
        actors = self.actors()
        self.process.join(PATIENCE_S)
        assert self.process.exitcode is not None, self.output
        _, alive = psutil.wait_procs([*actors, *self.actors()], timeout=60)
        assert alive == []
        return self.process.exitcode

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.end() == -signal.SIGKILL, self.output

    def actors(self) -> list[psutil.Process]:
        """The run's actors, on the cluster or below the call itself, as the operating system sees them."""
        below = self.root.children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            below += psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in below if _is_actor(process)]


def _is_actor(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # gone, or about to be
        return any(f"ray::{name}" in " ".join(process.cmdline()) for name in ("SolverActor", "VerifierActor"))
    return False


@dataclass
class Run:
    """One folder, called again and again."""

    folder: Path
    corpus: Path
    cluster: Cluster
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.audit = Audit(self.folder, TEXTS)

    def call(self, *more: str, is_alone: bool = False) -> Call:
        """Start the run, or start it again, with more flags: on the cluster, or alone with a Ray of its own."""
        address = None if is_alone else self.cluster.address
        said = self.corpus.with_name(f"said-{len(self.calls)}.txt")
        process = SERVER.Process(target=driver.drive, args=([*self._arguments(address), *more], said, self.cluster.env))
        process.start()
        self.calls.append(Call(process, said, self.cluster.process))
        return self.calls[-1]

    def command(self, address: str) -> str:
        """The same for a shell."""
        return shlex.join([sys.executable, "-m", "orchestrator.cli", *self._arguments(address)])

    def _arguments(self, address: str | None) -> list[str]:
        where = ["--address", address] if address else []
        return ["run", str(self.corpus), "--out", str(self.folder), *SETTINGS, *where]

    def log(self, *names: str) -> list[dict[str, Any]]:
        """Events of these names so far."""
        return list(read_events(self.folder, *names))

    @property
    def state(self) -> str:
        return json.loads((self.folder / "run.json").read_text())["state"]


SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="package")
def _orders(tmp_path_factory: pytest.TempPathFactory) -> Orders:
    return Orders(tmp_path_factory.mktemp("orders"))


@pytest.fixture
def orders(_orders: Orders) -> Iterator[Orders]:
    yield _orders
    _orders.withdraw()


@pytest.fixture(scope="package")
def cluster(_orders: Orders) -> Iterator[Cluster]:
    SERVER.set_forkserver_preload([driver.__name__])
    # Without tokens: Ray decides on them when it is imported, and the fork server did that before.
    with ray_cluster(RAY_AUTH_MODE="disabled", **{fail_points.VARIABLE: str(_orders.folder)}) as it:
        yield it


@pytest.fixture
def run(cluster: Cluster, tmp_path: Path) -> Iterator[Run]:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in TEXTS.items()))
    run = Run(tmp_path / "run", corpus, cluster)
    yield run
    for call in run.calls:
        call.process.kill()
        call.process.join()
