"""Are a run's certified rows what beam search says, on the engine of one's choice, at several widths?

    verbatim run corpora/demo.parquet --set proof=beam --out runs/demo-beam
    python -m bench.beam_verdicts runs/demo-beam --engine vllm --beams 4 8
    python -m bench.beam_verdicts runs/demo-beam --engine hf --beams 4 8 16

`verbatim verify DIR --beams N` says the same of one width; here one engine, without Ray, says it of all. Counts every
exact row, and apart those that claim it. Keeps an entry a folder and engine in bench/results/beam_verdicts.json.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from bench.recipes import ROOT
from orchestrator.fleet.verifier_actor import EngineSpec, make_verifier
from orchestrator.proof.claims import Claims, read_claims
from orchestrator.verifiers.contract import Mode, Verifier

RESULTS = ROOT / "bench" / "results" / "beam_verdicts.json"


def verdicts_at(claims: Claims, verifier: Verifier, width: int) -> dict[str, Any]:
    """Rows said by beams of a width, and the ids of those that claim it and are not."""
    verdicts = verifier.judge(list(claims), Mode(beams=width))
    certified = [verdict for row, verdict in zip(claims.rows(), verdicts, strict=True) if row["proof"] == "beam"]
    return {
        "width": width, "engine": verdicts[0].engine, "exact_rows": len(verdicts),
        "said": sum(verdict.exact for verdict in verdicts), "certified": len(certified),
        "certified_said": sum(verdict.exact for verdict in certified),
        "wrong": [verdict.id for verdict in certified if not verdict.exact],
    }  # fmt: skip


def keep(path: Path, record: dict[str, Any]) -> None:
    """Among the results, in place of the entry for the same folder and engine."""
    records = json.loads(path.read_text()) if path.exists() else []
    same = ("folder", "asked")
    records = [r for r in records if any(r[key] != record[key] for key in same)]
    path.write_text("[\n" + ",\n".join(json.dumps(r) for r in [*records, record]) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--beams", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    claims = read_claims(args.folder)
    model = claims.record.model
    spec = EngineSpec(args.engine, model.name, model.revision, claims.record.engine_dtype, model.was_served)
    verifier, rows = make_verifier(spec), []
    for width in args.beams:
        rows.append(verdicts_at(claims, verifier, width))
        print(json.dumps(rows[-1]), flush=True)
    asked = f"{args.engine} {claims.record.engine_dtype}"
    told = {"folder": args.folder.name, "model": claims.record.model.name, "asked": asked}
    solved = {
        "steps": sum(r["steps"] for r in claims.ledger.read(["steps"]) if r["steps"]),
        "rows": claims.record.num_rows,
    }
    keep(args.out, told | solved | {"verdicts": rows})


if __name__ == "__main__":
    main()
