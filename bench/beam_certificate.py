"""What does a certificate for beam search cost, and is it ever wrong?

    python -m bench.beam_certificate --model pocket --minutes 10
    python -m bench.beam_certificate --model DIR --minutes 3 --device cuda --wave 16 --out FILE

Solves the same texts with `proof = "greedy"` and with `proof = "beam"`, side by side and paired, then has every prompt
that is certified for beams decoded by beam searches of several widths as transformers runs them by default (with
`--vllm` as vLLM does too): scores divided by length, eight tokens past the target. A certified prompt that one of them
does not say is an error of the certificate: the command then ends with 1. Counts steps and positions, not seconds.

Owns: the texts, the pairs, what is counted. Must not know: Ray, Parquet; vLLM only where it is asked for.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers

from bench.english import sentences
from engine.frozen_lm import FrozenLM, TokenRule
from engine.held import held
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target, make_target
from orchestrator.verifiers.contract import Candidate, Mode, Verifier
from orchestrator.verifiers.hf_verifier import HfVerifier

RESULTS = Path(__file__).parent / "results" / "beam_certificate.json"
PROOFS = ("greedy", "beam")


def cut(rule: TokenRule, text: str, num_tokens: int, name: str) -> Target | None:
    """The beginning of a sentence, whole words, that is so many tokens with its end; None where there is none."""
    words = text.split(" ")
    for count in range(1, len(words) + 1):
        target = make_target(rule, name, " ".join(words[:count]))
        if isinstance(target, Target) and len(target.token_ids) >= num_tokens:
            return target if len(target.token_ids) == num_tokens else None
    return None


def waves(rule: TokenRule, lengths: list[int], size: int) -> Iterator[list[Target]]:
    """So many texts of each length a wave: beams search texts of one length together."""
    made = {length: _of_length(rule, length) for length in lengths}
    while wave := [target for own in made.values() for target in islice(own, size)]:
        yield wave


def _of_length(rule: TokenRule, length: int) -> Iterator[Target]:
    cuts = (cut(rule, text, length, f"english-{n}/{length}") for n, text in enumerate(sentences()))
    return (target for target in cuts if target is not None)


def jobs(targets: list[Target], ratios: list[float], recipes: dict[str, Recipe]) -> list[Job]:
    """Every text at every K, once for each proof."""
    return [
        Job(target, recipe, max(1, round(len(target.token_ids) / ratio)), owner=f"{proof}/{ratio:g}")
        for target in targets
        for ratio in ratios
        for proof, recipe in recipes.items()
    ]


def entry(attempt: Attempt) -> dict[str, Any]:
    """One prompt's figures."""
    certificate, job = attempt.certificate, attempt.job
    assert certificate is not None
    proof, ratio = job.owner.split("/")
    return {
        "id": job.target.id,
        "proof": proof,
        "ratio": float(ratio),
        "tokens": len(job.target.token_ids),
        "vectors": job.num_vectors,
        "steps": attempt.steps,
        "positions": attempt.positions,
        "is_done": attempt.has_margin,
        "is_greedy": certificate.is_greedy,
        "is_certified": certificate.is_greedy and certificate.lead(job.overrun) > 0,
        "min_margin": round(certificate.min_margin, 4),
        "slack": round(certificate.slack, 4),
        "log_prob": round(certificate.log_prob, 4),
        "said": {},
    }


def judge(rows: list[dict[str, Any]], attempts: list[Attempt], verifier: Verifier, widths: list[int]) -> None:
    """Have one engine decode every prompt that is certified for beams with each width; 1 is greedy."""
    asked = [(row, attempt) for row, attempt in zip(rows, attempts, strict=True) if row["is_certified"]]
    candidates = [Candidate(a.job.key, held(a.prompt_KD).numpy(), a.job.target.token_ids) for _, a in asked]
    for width in widths:
        for (row, _), verdict in zip(asked, verifier.judge(candidates, Mode(beams=width)), strict=True):
            row["said"][f"{verifier.engine.split()[0]}-{width}"] = verdict.exact


def verifiers(args: argparse.Namespace, source: ModelSource, context: int) -> list[tuple[Verifier, list[int]]]:
    """The engines asked for, with their widths."""
    asked: list[tuple[Verifier, list[int]]] = []
    if args.hf:
        hf = HfVerifier(source.path, revision=source.revision, dtype="float32", context=context, device=args.device)
        asked.append((hf, args.hf))
    if args.vllm:
        from orchestrator.verifiers.vllm_verifier import VllmVerifier

        vllm = VllmVerifier(source.path, revision=source.revision, dtype="float32", context=context)
        asked.append((vllm, args.vllm))
    return asked


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each number of tokens a vector: who was certified, said by whom, and what a proof for beams costs.

    The price is steps and positions of the pairs in which both proofs came to their end.
    """
    told = []
    for ratio in sorted({row["ratio"] for row in rows}):
        mine = {proof: [r for r in rows if (r["ratio"], r["proof"]) == (ratio, proof)] for proof in PROOFS}
        greedy = {row["id"]: row for row in mine["greedy"] if row["is_done"]}
        pairs = [(greedy[row["id"]], row) for row in mine["beam"] if row["is_done"] and row["id"] in greedy]
        certified = [row for row in rows if row["ratio"] == ratio and row["is_certified"]]
        told.append({
            "tokens_per_vector": ratio,
            "texts": len(mine["greedy"]),
            "done": {proof: sum(row["is_done"] for row in own) for proof, own in mine.items()},
            "pairs": len(pairs),
            "mean_steps": {proof: round(fmean(pair[n]["steps"] for pair in pairs), 1) if pairs else None
                           for n, proof in enumerate(PROOFS)},
            "price": {unit: round(sum(b[unit] for _, b in pairs) / sum(g[unit] for g, _ in pairs), 3) if pairs else None
                      for unit in ("steps", "positions")},
            "certified": len(certified),
            "lengths": sorted({row["tokens"] for row in certified}),
            "vectors": sorted({row["vectors"] for row in certified}),
            "said": {who: sum(row["said"][who] for row in certified) for who in sorted(certified[0]["said"])}
                    if certified else {},
            "certified_but_not_said": sum(not all(row["said"].values()) for row in certified),
        })  # fmt: skip
    return told


def measure(args: argparse.Namespace, lm: FrozenLM, engines: list[tuple[Verifier, list[int]]]) -> list[dict[str, Any]]:
    """Waves of texts, solved and judged, as long as another one of the longest so far fits the time."""
    own = {"greedy": [], "beam": args.beam_set}
    recipes = {proof: load_recipe(None, [f"proof={proof}", *args.set, *own[proof]]) for proof in PROOFS}
    rows: list[dict[str, Any]] = []
    ends, longest = time.monotonic() + 60 * args.minutes, 0.0
    for targets in waves(lm.token_rule, args.lengths, args.wave):
        began = time.monotonic()
        if began + longest > ends:
            break
        attempts = Solver(lm, table_positions=args.table).solve(
            jobs(targets, args.tokens_per_vector, recipes), seconds=ends - began
        )
        attempts = [attempt for attempt in attempts if attempt.certificate is not None]
        mine = [entry(attempt) for attempt in attempts]
        for verifier, widths in engines:
            judge(mine, attempts, verifier, widths)
        rows += mine
        longest = max(longest, time.monotonic() - began)
        wrong = sum(not all(row["said"].values()) for row in rows)
        print(f"{longest:.0f} s a wave, {sum(r['is_certified'] for r in rows)} certified, {wrong} not said", flush=True)
    return rows


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a name, or a model's folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="loading comes on top")
    parser.add_argument("--lengths", type=int, nargs="+", default=[6, 10, 14, 20, 28], help="tokens of texts")
    parser.add_argument("--wave", type=int, default=4, help="texts of each length solved together")
    parser.add_argument("--tokens-per-vector", type=float, nargs="+", default=[2.0, 4.0])
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="added to both recipes")
    parser.add_argument("--beam-set", action="append", default=[], metavar="K=V", help="added to the one for beams")
    parser.add_argument("--table", type=int, default=2048, help="positions in the solver's table")
    parser.add_argument("--hf", type=int, nargs="*", default=[4, 8, 16], help="widths that transformers searches")
    parser.add_argument("--vllm", type=int, nargs="*", default=[], help="widths that are searched over vLLM")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a file of its own, instead of bench/results/beam_certificate.json")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    source = ModelSource(args.model)
    lm = FrozenLM.load(source, device=args.device)
    context = math.ceil(max(args.lengths) * (1 + 1 / min(args.tokens_per_vector))) + 16
    rows = measure(args, lm, verifiers(args, source, context))
    figures = summary(rows)
    print(json.dumps(figures, indent=1))
    record = {
        "fingerprint": lm.fingerprint, "set": args.set, "beam_set": args.beam_set, "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "summary": figures, **packed(rows),
    }  # fmt: skip
    keep(args.out, f"{Path(args.model).name}, {record['device']}", record)
    sys.exit(int(any(group["certified_but_not_said"] for group in figures)))


def packed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as columns' names and lists of their values, with the searches that said the text as words."""
    columns = [name for name in rows[0] if name != "said"] if rows else []
    return {
        "columns": [*columns, "said by"],
        "rows": [
            [*(int(v) if isinstance(v := row[name], bool) else v for name in columns),
             " ".join(who for who, is_said in row["said"].items() if is_said)]
            for row in rows
        ],
    }  # fmt: skip


def keep(out: Path | None, name: str, record: dict[str, Any]) -> None:
    """As a file of its own, or among the results under its name."""
    kept = {} if out or not RESULTS.exists() else json.loads(RESULTS.read_text())
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (kept | {name: record}).items())
    (out or RESULTS).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
