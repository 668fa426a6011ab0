"""In which numerics should the solver measure margins of a bfloat16 model: logits rounded to bfloat16, or float32?

    python -m bench.half_precision --texts 48
    python -m bench.half_precision --model DIR --texts 8 --set optim.lr=0.2 --name smollm2

Solves texts in float32 to several margins, so that the prompts favour neither. Each is then measured in bfloat16 with
both heads, and decoded by transformers and by vLLM as people run them, and by vLLM with its head in float32.
Writes bench/results/half_precision-NAME.json and prints what decision 14 quotes.
"""

import argparse
import json
import math
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from bench.recipes import ROOT, pick_targets
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.model_source import ModelSource
from engine.recipe import load_recipe
from engine.slots import Job
from engine.solver import Solver
from orchestrator.verifiers.contract import Candidate, Mode, Verdict

STOP_MARGINS = (0.01, 0.1, 0.25, 0.5)
LEAST = (0.0, 0.125, 0.25, 0.5)
"""Margins above which survival is counted."""


def solve(args: argparse.Namespace) -> list[Candidate]:
    """Prompts certified in float32, every text once for every margin."""
    lm = FrozenLM.load(ModelSource(args.model))
    jobs = []
    for target in pick_targets(lm, "english_1k", args.texts, (1, 10_000)):
        for margin in STOP_MARGINS:
            recipe = load_recipe(None, [f"stop_margin={margin}", "max_steps=300", *args.set])
            jobs.append(Job(target, recipe, math.ceil(len(target.token_ids) / args.tokens_per_vector)))
    return [
        Candidate(f"{a.job.target.id}/{a.job.recipe.stop_margin}", held(a.prompt_KD).numpy(), a.job.target.token_ids)
        for a in Solver(lm).solve(jobs)
        if a.is_candidate
    ]


@torch.no_grad()
def measure(model: str, candidates: list[Candidate]) -> dict[str, list[list[float]]]:
    """Teacher-forced margins of every position in bfloat16, by how the head's product is kept."""
    lm = FrozenLM.load(ModelSource(model), dtype="bfloat16")
    margins: dict[str, list[list[float]]] = {"rounded": [], "float32": []}
    for candidate in candidates:
        target_T = torch.tensor(candidate.token_ids)
        hidden_TD = lm.read([torch.from_numpy(candidate.prompt_KD)], lm.embed_targets([target_T]))
        logits_TV = lm.head.logits(hidden_TD)
        for name, by_token_TV in (("rounded", logits_TV.bfloat16().float()), ("float32", logits_TV)):
            own_T = by_token_TV.gather(1, target_T[:, None])[:, 0]
            rival_T = by_token_TV.scatter(1, target_T[:, None], float("-inf")).amax(1)
            margins[name].append((own_T - rival_T).tolist())
    return margins


def decode(engine: str, model: str, candidates: list[Candidate]) -> list[Verdict]:
    """Verdicts with margins, in a process of its own."""
    from orchestrator.verifiers.hf_verifier import HfVerifier
    from orchestrator.verifiers.vllm_verifier import VllmVerifier

    context = 8 + max(len(c.prompt_KD) + len(c.token_ids) for c in candidates)
    verifier = {"hf": HfVerifier, "vllm": VllmVerifier}[engine](model, revision=None, dtype="bfloat16", context=context)
    return verifier.judge(candidates, Mode(margins=True))


def with_float32_head(model: str, folder: str) -> str:
    """The same model's folder, but vLLM keeps its logits in float32."""
    for path in Path(model).iterdir():
        (Path(folder) / path.name).symlink_to(path.resolve())
    config = json.loads((Path(model) / "config.json").read_text()) | {"head_dtype": "float32"}
    (Path(folder) / "config.json").unlink()
    (Path(folder) / "config.json").write_text(json.dumps(config))
    return folder


def compare(margins: dict[str, list[list[float]]], verdicts: dict[str, list[Verdict]]) -> dict:
    """Ties, differences by position, and of what each way certifies the share that each engine says."""
    figures: dict = {"positions": sum(map(len, margins["float32"])), "ties": {}, "differences": {}, "survival": {}}
    for name, rows in margins.items():
        figures["ties"][name] = sum(margin == 0 for row in rows for margin in row)
        for engine, given in verdicts.items():
            apart = sorted(
                abs(ours - theirs)
                for row, verdict in zip(rows, given, strict=True)
                for ours, theirs in zip(row, verdict.margins or (), strict=False)
            )
            figures["differences"][f"{name} and {engine}"] = {
                "mean": statistics.fmean(apart), "p99": apart[int(0.99 * len(apart))], "max": apart[-1],
            }  # fmt: skip
            for least in LEAST:
                certified = [b for b, row in enumerate(rows) if min(row) > least]
                exact = sum(given[b].exact for b in certified)
                figures["survival"][f"{name} above {least}, {engine}"] = f"{exact} of {len(certified)}"
    figures["ties"] |= {
        engine: sum(margin == 0 for verdict in given for margin in verdict.margins or ())
        for engine, given in verdicts.items()
    }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--name", default="pocket")
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("--tokens-per-vector", type=float, default=2.0)
    parser.add_argument("--set", action="append", default=[], metavar="K=V")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path, candidates = ModelSource(args.model).path, solve(args)
    print(f"{len(candidates)} prompts", flush=True)
    margins, verdicts = measure(args.model, candidates), {}
    with tempfile.TemporaryDirectory() as folder:
        engines = {"hf": path, "vllm": path, "vllm, float32 head": with_float32_head(path, folder)}
        for name, model in engines.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                verdicts[name] = pool.submit(decode, name.split(",")[0], model, candidates).result()
    record = {"setting": vars(args), "prompts": len(candidates)} | compare(margins, verdicts)
    print(json.dumps(record, indent=1))
    (ROOT / "bench" / "results" / f"half_precision-{args.name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
