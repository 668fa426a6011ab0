"""The ladder of proof: how much a stored prompt withstands beyond one greedy decoding.

Owns: the rungs, climbing them, the table that comes of it. Must not know: how prompts were found.

    argmax -> margin -> scored -> greedy, many at once and alone, in float32 and bfloat16 -> the prompt rounded -> noise
           -> beam

The first two are the solver's word. What is scored the verifying engine has read and not decoded; every other rung it
decodes; `exact` in a run's results
means the first of those or higher.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from engine.parameterisation import serve
from orchestrator.console.progress import Reporter
from orchestrator.console.terminal import Streamed, cell, say
from orchestrator.fleet.verifier_actor import JUDGE_BATCH, EngineSpec
from orchestrator.proof.judge import Judge
from orchestrator.verifiers.contract import BEAMS, GREEDY, SCORED, Candidate, Mode, Verdict

NOISE_SIGMAS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Standard deviations tried on a prompt, in units of its root mean square."""

NOISE_DRAWS = 4
"""Noisy copies that must all be exact for a prompt to withstand a sigma."""

MARGIN_BINS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Lower edges of the bins in which survival is counted, logits."""


@dataclass(frozen=True)
class Rung:
    """One way of decoding a prompt that it may or may not withstand.

    Attributes:
        dtype: the engine's numerics.
        rounding: dtype the prompt is stored in on its way to the engine.
    """

    name: str
    dtype: str = "float32"
    mode: Mode = GREEDY
    rounding: str = "float32"


RUNGS = (
    Rung("greedy_float32"),
    Rung("scored_float32", mode=SCORED),
    Rung("greedy_float32_alone", mode=Mode(batch_size=1)),
    Rung("beam_float32", mode=Mode(beams=BEAMS)),
    Rung("rounded_bfloat16", rounding="bfloat16"),
    Rung("rounded_float16", rounding="float16"),
    Rung("rounded_int8", rounding="int8"),
    Rung("greedy_bfloat16", dtype="bfloat16"),
    Rung("scored_bfloat16", dtype="bfloat16", mode=SCORED),
    Rung("greedy_bfloat16_alone", dtype="bfloat16", mode=Mode(batch_size=1)),
)
"""Rungs on the verifying engine; the ones of one dtype share it."""

WIDEST = "float32"
"""The dtype of a rung that takes the most memory."""


@dataclass(frozen=True)
class Proof:
    """What each prompt withstood.

    Attributes:
        engine: name and version of the engine that decoded.
        margins: smallest margin the solver measured on each prompt, logits.
        passed: for each rung, by name, whether each prompt was exact; None where the rung reads prompts and could
            not read this one.
        noise_radius: for each prompt the largest of `NOISE_SIGMAS` up to which all noisy copies were exact; 0 if
            even the first was too much; NaN where the prompt was not exact without noise.
    """

    engine: str
    ids: list[str]
    margins: Sequence[float]
    passed: dict[str, list[bool | None]]
    noise_radius: list[float]

    def table(self) -> pa.Table:
        """One row a prompt: id, min_margin, one column a rung, noise_radius."""
        columns = {"id": self.ids, "min_margin": pa.array(self.margins, pa.float32())} | self.passed
        columns["noise_radius"] = pa.array(self.noise_radius, pa.float32())
        return pa.table(columns).replace_schema_metadata({"verbatim_engine": self.engine})

    def by_margin(self) -> Iterator[tuple[float, int, dict[str, int]]]:
        """(lower edge, prompts, exact by rung) of each bin that holds any."""
        for low, high in zip(MARGIN_BINS, (*MARGIN_BINS[1:], float("inf")), strict=True):
            inside = [i for i, margin in enumerate(self.margins) if low <= margin < high]
            if inside:
                yield (
                    low,
                    len(inside),
                    {name: sum(exact[i] is True for i in inside) for name, exact in self.passed.items()},
                )

    def is_all_exact(self) -> bool:
        """Whether every prompt withstood every greedy rung; what a beam search finds likelier is its own affair."""
        others = {rung.name for rung in RUNGS if rung.mode.beams > 1 or not rung.mode.decoded}
        return all(all(exact) for name, exact in self.passed.items() if name not in others)


T = TypeVar("T")


class Candidates(Protocol):
    """Prompts and what they are claimed to say, gone through once for each rung; a list is one."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Candidate]: ...


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Items in their order, so many at a time."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def climb(
    candidates: Candidates,
    margins: Sequence[float],
    spec: EngineSpec,
    reporter: Reporter,
    rungs: tuple[Rung, ...] = RUNGS,
    *,
    noise: bool = True,
) -> Proof:
    """Decode every candidate on every rung, one engine after the other; Ray must be connected.

    Args:
        candidates: prompts and what they are claimed to say; few of them in memory at a time.
        margins: the solver's smallest margin of each, logits.
        spec: the engine; each rung sets its own dtype.
        noise: whether to find each prompt's noise radius, with the first rung's engine.
    """
    passed: dict[str, list[bool | None]] = {}
    noise_radius, engine = [float("nan")] * len(candidates), ""
    for dtype in dict.fromkeys(rung.dtype for rung in rungs):
        with Judge(replace(spec, dtype=dtype), f"ladder-{dtype}", reporter.say) as judge:
            for rung in [rung for rung in rungs if rung.dtype == dtype]:
                passed[rung.name] = []
                for batch in in_batches(candidates, JUDGE_BATCH):
                    verdicts = judge.judge([rounded(c, rung.rounding) for c in batch], rung.mode)
                    passed[rung.name] += [withstood(verdict, rung.mode) for verdict in verdicts]
                    engine = engine or verdicts[0].engine
                    reporter.update(len(passed[rung.name]), rung.name)
                known = [exact for exact in passed[rung.name] if exact is not None]
                reporter.say(f"{rung.name}: {sum(known)} of {len(known)} exact")
            if noise and dtype == rungs[0].dtype:
                noise_radius = _noise_radius(candidates, passed[rungs[0].name], judge, reporter)
    return Proof(engine, [c.id for c in candidates], margins, passed, noise_radius)


def withstood(verdict: Verdict, mode: Mode) -> bool | None:
    """Whether a prompt was decoded exactly, or every margin that was read of it is positive; None where it should have
    been read and was neither."""
    if mode.decoded or verdict.generated_ids or verdict.refusal is not None:
        return verdict.exact
    return None if verdict.target_margins is None else min(verdict.target_margins) > 0


def rounded(candidate: Candidate, dtype: str) -> Candidate:
    """The candidate with its prompt as a server would store it in `dtype`."""
    prompt_KD = torch.from_numpy(candidate.prompt_KD.copy())
    return replace(candidate, prompt_KD=serve(prompt_KD, dtype).numpy())


def _noise_radius(candidates: Candidates, exact: list[bool | None], judge: Judge, reporter: Reporter) -> list[float]:
    """Sigma by sigma; a prompt that fell at one is not tried at the next."""
    radius = [0.0 if is_exact else float("nan") for is_exact in exact]
    is_standing = [is_exact is True for is_exact in exact]
    stream = np.random.default_rng(0)
    for sigma in NOISE_SIGMAS:
        standing = ((i, candidate) for i, candidate in enumerate(candidates) if is_standing[i])
        num_tried = 0
        for batch in in_batches(standing, JUDGE_BATCH // NOISE_DRAWS):
            noisy = [_noisy(candidate, sigma, stream) for _, candidate in batch for _ in range(NOISE_DRAWS)]
            held = [verdict.exact for verdict in judge.judge(noisy)]
            for n, (i, _) in enumerate(batch):
                is_standing[i] = all(held[n * NOISE_DRAWS : (n + 1) * NOISE_DRAWS])
                radius[i] = sigma if is_standing[i] else radius[i]
            num_tried += len(batch)
            reporter.update(num_tried, "noise")
        reporter.say(f"noise of {sigma:g} of a prompt's size: {sum(is_standing)} withstand it")
    return radius


def _noisy(candidate: Candidate, sigma: float, stream: np.random.Generator) -> Candidate:
    prompt_KD = candidate.prompt_KD
    size = float(np.sqrt(np.mean(prompt_KD.astype(np.float64) ** 2)))
    noise_KD = stream.standard_normal(prompt_KD.shape, dtype=np.float32) * np.float32(sigma * size)
    return replace(candidate, prompt_KD=prompt_KD + noise_KD)


def write_proof(proof: Proof, path: Path) -> None:
    """One Parquet file, in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(proof.table(), temporary, write_page_checksum=True)
    temporary.replace(path)


def to_json(proof: Proof) -> dict[str, Any]:
    """Each prompt by id, and the counts by margin."""
    prompts = (
        {
            "id": id,
            "min_margin": margin,
            "passed": {name: exact[i] for name, exact in proof.passed.items()},
            "noise_radius": None if math.isnan(radius) else radius,
        }
        for i, (id, margin, radius) in enumerate(zip(proof.ids, proof.margins, proof.noise_radius, strict=True))
    )
    by_margin = [{"margin_from": low, "prompts": count, "exact": exact} for low, count, exact in proof.by_margin()]
    return {"engine": proof.engine, "prompts": Streamed(prompts, len(proof.ids)), "by_margin": by_margin}


def print_proof(proof: Proof, console: Console) -> None:
    """Survival by margin and rung, and what noise the prompts withstand."""
    bins = list(proof.by_margin())
    table = Table(title=cell(f"exact on {proof.engine}, by margin"), box=None, pad_edge=False, title_justify="left")
    table.add_column("margin from", no_wrap=True)
    for low, _, _ in bins:
        table.add_column(f"{low:g}", justify="right", no_wrap=True)
    table.add_row("prompts", *(str(num_prompts) for _, num_prompts, _ in bins))
    for name in proof.passed:
        table.add_row(name.replace("_", " "), *(str(exact[name]) for _, _, exact in bins))
    console.print(table)
    known = sorted(radius for radius in proof.noise_radius if radius == radius)
    if known:
        say(console, f"noise withstood: median {known[len(known) // 2]:g}, least {known[0]:g} of a prompt's size")
