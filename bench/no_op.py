"""Actors that do nothing: what is left of a run is what the driver costs.

Owns: attempts and verdicts out of thin air, with the methods and records of the real actors. Must not know: the driver.

K soft-prompt vectors, D hidden size.
"""

import time
from collections.abc import Collection
from functools import cache
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from bench.recipes import ROOT
from engine.certificate import Certificate
from engine.slots import Attempt, Job
from orchestrator.cluster.nodes import Home, home
from orchestrator.fleet.answers import Advance, SolverInfo
from orchestrator.fleet.blocks import present, taken_out
from orchestrator.fleet.brought import Block
from orchestrator.verifiers.contract import GREEDY, Candidate, Mode, Verdict

D = 256
"""Hidden size of the prompts: the pocket model's."""

TABLE = 1536
"""Read positions of a table that is never full."""

BATCH = 10_000
"""Rows of a corpus that are written together."""


@cache
def numbers(num_vectors: int, hidden_size: int) -> torch.Tensor:
    """(K, D), random: they weigh and compress like an optimised prompt's."""
    return torch.randn(num_vectors, hidden_size)


def solved(job: Job, hidden_size: int = D) -> Attempt:
    """A certified prompt, the same numbers for all: making new ones would take longer than what is measured."""
    num_tokens = len(job.target.token_ids)
    certificate = Certificate(0.55, num_tokens, num_tokens, mean_nats=0.01, accuracy=1.0)
    return Attempt(job, numbers(job.num_vectors, hidden_size), certificate, steps=30, positions=1000, seconds=1.0)


def exact(candidate: Candidate) -> Verdict:
    """The verdict on a prompt that says its target."""
    ids = candidate.token_ids
    return Verdict(candidate.id, True, ids, len(ids), "no-op", "float32")


@ray.remote(num_cpus=0)
class NoOpSolver:
    """Solves every job at once, or as many a call as it is told to."""

    def __init__(self, jobs_a_call: int | None = None, hidden_size: int = D):
        torch.set_num_threads(1)
        self._jobs: list[Job] = []
        self._jobs_a_call, self._hidden_size = jobs_a_call, hidden_size

    def load(self) -> Home:
        """As `SolverActor.load`."""
        return home()

    def home(self) -> Home:
        """As `SolverActor.home`."""
        return home()

    def describe(self) -> SolverInfo:
        """As `SolverActor.describe`."""
        return SolverInfo("no-op", self._hidden_size, "cpu", "float32", 1)

    @ray.method(num_returns=3)
    def advance(
        self,
        jobs: list[Job],
        seconds: float,
        checkpoints: dict[str, bytes] | None = None,
        *,
        keeps: bool = False,
        give_back: Collection[str] = (),
    ) -> tuple[Advance, Block, Block]:
        """`SolverActor.advance` without the optimisation."""
        started = time.monotonic()
        self._jobs += jobs
        given_back = [job.key for job in self._jobs if job.key in give_back]
        self._jobs = [job for job in self._jobs if job.key not in give_back]
        attempts, block = taken_out([solved(job, self._hidden_size) for job in self._jobs[: self._jobs_a_call]])
        del self._jobs[: len(attempts)]
        steps, tokens, elapsed = len(attempts), 1000.0 * len(attempts), time.monotonic() - started
        advance = Advance(attempts, len(self._jobs), steps, tokens, elapsed, TABLE, given_back=tuple(given_back))
        return advance, block, []


@ray.remote(num_cpus=0)
class NoOpVerifier:
    """Believes every candidate."""

    def load(self) -> Home:
        """As `VerifierActor.load`."""
        return home()

    def home(self) -> Home:
        """As `VerifierActor.home`."""
        return home()

    def judge(self, candidates: list[Candidate], mode: Mode = GREEDY) -> list[Verdict]:
        """`VerifierActor.judge` without the decoding."""
        return [exact(candidate) for candidate in present(candidates)]


def write_corpus(path: Path, num_rows: int, *, has_ids: bool = True) -> None:
    """The sentences of english_1k over and over, as a Parquet file that is never in memory as a whole."""
    texts = pq.read_table(ROOT / "corpora" / "english_1k.parquet")["text"].to_pylist()
    schema = pa.schema([("id", pa.string()), ("text", pa.string())] if has_ids else [("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        rows = iter(range(num_rows))
        while chunk := list(islice(rows, BATCH)):
            columns = {"id": [f"text-{row:09d}" for row in chunk], "text": [texts[row % len(texts)] for row in chunk]}
            writer.write_table(pa.table({name: columns[name] for name in schema.names}, schema=schema))


def resident_mib() -> float:
    """Memory of this process that is its own, MiB; what it shares with others, such as Ray's object store, left out."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024
