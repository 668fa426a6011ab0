"""Margins that vLLM reads in one pass against those it decodes: how far apart, and what each takes.

    python -m bench.scored
    python -m bench.scored --model smollm2 --texts 10 --vectors-per-token 0.5

Texts of the demo are solved with the default recipe; vLLM decodes them, decodes them with the margins of what it says,
and scores them, three times each in float32 and bfloat16. "Apart" is the largest difference of a token's margin, in
logits. Writes bench/results/scored.json; models that are there already are kept.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import torch

from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.model_source import ModelSource
from engine.probes import Probe, measure
from engine.recipe import Recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target, make_target
from orchestrator.measured.margin_control import candidates_of
from orchestrator.verifiers.contract import GREEDY, SCORED, Mode
from orchestrator.verifiers.vllm_verifier import VllmVerifier

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "scored.json"
REPEATS = 3
CONTEXT = 256
SECONDS = 240.0
"""Most that solving takes; what is not solved by then is compared as it is."""


def solved(source: ModelSource, num_texts: int, vectors_per_token: float) -> list[Probe]:
    """Prompts of the first texts of the demo, each with the solver's own margins."""
    lm = FrozenLM.load(source)
    rows = pq.read_table(ROOT / "corpora" / "demo.parquet").to_pylist()[:num_texts]
    made = [make_target(lm.token_rule, row["id"], row["text"]) for row in rows]
    jobs = [
        Job(target, Recipe(), max(4, round(len(target.token_ids) * vectors_per_token)))
        for target in made
        if isinstance(target, Target)
    ]
    attempts = Solver(lm).solve(jobs, seconds=SECONDS)
    return measure(lm, [attempt.job.target for attempt in attempts], [held(attempt.prompt_KD) for attempt in attempts])


def compared(source: ModelSource, probes: list[Probe], dtype: str) -> dict:
    """One engine in one dtype."""
    verifier = VllmVerifier(source.path, revision=None, dtype=dtype, context=CONTEXT)
    candidates = candidates_of(probes)
    modes = {"decoded": GREEDY, "decoded with margins": Mode(margins=True), "scored": SCORED}
    for mode in modes.values():  # the first call of a kind takes longer
        verifier.judge(candidates[:2], mode)
    seconds = {
        name: min(_timed(lambda mode=mode: verifier.judge(candidates, mode)) for _ in range(REPEATS))
        for name, mode in modes.items()
    }
    decoded, read = verifier.judge(candidates, Mode(margins=True)), verifier.judge(candidates, SCORED)
    said = [each.margins or () for each in decoded]
    scores = [each.target_margins or () for each in read]
    return {
        "engine": verifier.engine, "exact": sum(each.exact for each in decoded), "texts": len(candidates),
        "tokens": sum(map(len, scores)), "seconds": seconds,
        "decoded_from_scored": _apart(said, scores),
        "scored_from_solver": _apart(scores, [tuple(probe.margins) for probe in probes]),
        "decoded_from_solver": _apart(said, [tuple(probe.margins) for probe in probes]),
    }  # fmt: skip


def _apart(ours: list[tuple[float, ...]], theirs: list[tuple[float, ...]]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return max(abs(a - b) for mine, other in pairs for a, b in zip(mine, other, strict=False))


def _timed(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--vectors-per-token", type=float, default=0.25)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    source = ModelSource(args.model)
    probes = solved(source, args.texts, args.vectors_per_token)
    record = json.loads(args.out.read_text()) if args.out.exists() else {}
    record[args.model] = {}
    for dtype in ("float32", "bfloat16"):
        record[args.model][dtype] = found = compared(source, probes, dtype)
        print(args.model, dtype, json.dumps(found), flush=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
