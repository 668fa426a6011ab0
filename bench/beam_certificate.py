"""What does a certificate for beam search cost, and is it ever wrong?

    python -m bench.beam_certificate --texts 64 --tokens-per-vector 2 4 --hf 4 8 16 --vllm 4 8

Solves the same texts with `proof = "greedy"` and with `proof = "beam"`, side by side and paired, then has every prompt
decoded by beam searches of several widths as transformers and vLLM run them by default: scores divided by length, eight
tokens past the target. A certified prompt that one of them does not say is an error of the certificate: the command
then ends with 1. Counts steps, not seconds. Adds its figures to bench/results/beam_certificate.json, one entry a model
and set of texts.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import pyarrow.parquet as pq
import torch

from bench.recipes import ROOT
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target, make_target
from orchestrator.fleet.verifier_actor import EngineSpec, make_verifier
from orchestrator.verifiers.contract import Candidate, Mode

RESULTS = ROOT / "bench" / "results" / "beam_certificate.json"
PROOFS = ("greedy", "beam")


def read_targets(lm: FrozenLM, corpus: Path, num_texts: int, most_tokens: int) -> list[Target]:
    """The corpus's first texts of at most so many tokens."""
    made = (make_target(lm.tokens, row["id"], row["text"]) for row in pq.read_table(corpus).to_pylist())
    return [t for t in made if isinstance(t, Target) and len(t.token_ids) <= most_tokens][:num_texts]


def solve(lm: FrozenLM, targets: list[Target], ratios: list[float], settings: list[str]) -> list[Attempt]:
    """Every text at every K, once for each proof."""
    recipes = {proof: load_recipe(None, [f"proof={proof}", *settings]) for proof in PROOFS}
    jobs = [
        Job(target, recipe, math.ceil(len(target.token_ids) / ratio), owner=f"{proof}/{ratio:g}")
        for target in targets
        for ratio in ratios
        for proof, recipe in recipes.items()
    ]

    def say(attempt: Attempt) -> None:
        print(attempt.job.key, attempt.steps, attempt.is_candidate, file=sys.stderr, flush=True)

    return Solver(lm).solve(jobs, say)


def entry(attempt: Attempt) -> dict:
    """One prompt's figures."""
    certificate, job = attempt.certificate, attempt.job
    assert certificate is not None
    return {
        "id": job.target.id,
        "proof": job.recipe.proof,
        "tokens": len(job.target.token_ids),
        "vectors": job.num_vectors,
        "steps": attempt.steps,
        "is_done": job.lead(certificate) >= job.recipe.stop_margin,
        "is_greedy": certificate.is_greedy,
        "is_certified": certificate.is_greedy and certificate.lead(job.overrun) > 0,
        "min_margin": round(certificate.min_margin, 4),
        "slack": round(certificate.slack, 4),
        "log_prob": round(certificate.log_prob, 4),
        "said": {},
    }


def judge(rows: list[dict], attempts: list[Attempt], spec: EngineSpec, widths: list[int]) -> None:
    """Have one engine decode every prompt that is greedy with each width; 1 is greedy."""
    verifier = make_verifier(spec)
    asked = [(row, attempt) for row, attempt in zip(rows, attempts, strict=True) if row["is_greedy"]]
    candidates = [Candidate(a.job.key, a.prompt_KD.numpy(), a.job.target.token_ids) for _, a in asked]
    for width in widths:
        for (row, _), verdict in zip(asked, verifier.judge(candidates, Mode(beams=width)), strict=True):
            row["said"][f"{spec.engine}-{width}"] = verdict.exact
        print(f"{verifier.engine}, width {width}: judged {len(asked)}", file=sys.stderr, flush=True)


def summary(rows: list[dict]) -> list[dict]:
    """For each K and proof: how many, steps (an unfinished text counts with all it took), and who said what."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["ratio"], row["proof"]), []).append(row)
    return [
        {
            "tokens_per_vector": ratio,
            "proof": proof,
            "texts": len(mine),
            "done": sum(row["is_done"] for row in mine),
            "certified": sum(row["is_certified"] for row in mine),
            "mean_steps": round(sum(row["steps"] for row in mine) / len(mine), 1),
            "exact": {who: sum(row["said"].get(who, False) for row in mine) for who in sorted(mine[0]["said"])},
            "certified_but_not_said": sum(row["is_certified"] and not all(row["said"].values()) for row in mine),
        }
        for (ratio, proof), mine in groups.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpora" / "demo.parquet")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--most-tokens", type=int, default=10_000, help="leave longer texts out")
    parser.add_argument("--tokens-per-vector", type=float, nargs="+", default=[2.0, 4.0])
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="added to both recipes")
    parser.add_argument("--hf", type=int, nargs="*", default=[1, 4], help="widths that transformers searches")
    parser.add_argument("--vllm", type=int, nargs="*", default=[], help="widths that are searched over vLLM")
    parser.add_argument("--name", default="", help="key in the results; default the model's name")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = ModelSource(args.model)
    lm = FrozenLM.load(source)
    attempts = solve(lm, read_targets(lm, args.corpus, args.texts, args.most_tokens), args.tokens_per_vector, args.set)
    rows = [entry(a) | {"ratio": float(a.job.owner.split("/")[1])} for a in attempts]
    for engine, widths in (("hf", args.hf), ("vllm", args.vllm)):
        if widths:
            spec = EngineSpec(engine, source.path, source.revision, "float32", lm.tokens.context)
            judge(rows, attempts, spec, widths)
    figures = summary(rows)
    print(json.dumps(figures, indent=1))
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    name = args.name or Path(args.model).name
    kept[name] = {
        "fingerprint": lm.fingerprint, "settings": args.set, "corpus": args.corpus.name, "torch": torch.__version__,
        "summary": figures, "rows": rows,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    sys.exit(int(any(group["certified_but_not_said"] for group in figures)))


if __name__ == "__main__":
    main()
