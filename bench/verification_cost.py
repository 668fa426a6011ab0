"""What does proving cost beside finding?

    verbatim run corpora/english_1k.parquet --out runs/english_1k
    python bench/verification_cost.py runs/english_1k

Judges every exact prompt of a finished run again, greedily, on the vLLM actor: once right after the engine's start,
when its first call also compiles and warms up, and once more. Prints both beside the wall time in which the run
found them. Writes bench/results/verification_cost.json.
"""

import argparse
import json
import os
import time
from pathlib import Path

import ray

from bench.recipes import ROOT
from orchestrator.fleet import workers
from orchestrator.proof.claims import read_claims
from orchestrator.proof.judge import Judge
from orchestrator.proof.reproof import ReproofOptions, spec_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "verification_cost.json")
    args = parser.parse_args()
    claims = read_claims(args.folder)
    candidates, found_s = list(claims), claims.record.seconds
    workers.connect(None, dashboard=False)
    started = time.monotonic()
    with Judge(spec_for(claims, ReproofOptions(args.folder)), "cost") as judge:
        workers.get(judge.actor.ready.remote())
        start_s = time.monotonic() - started
        seconds = []
        for _ in range(2):
            started = time.monotonic()
            verdicts = judge.judge(candidates)
            seconds.append(time.monotonic() - started)
            assert all(verdict.exact for verdict in verdicts), "a prompt of this folder is not exact any more"
    ray.shutdown()
    record = {
        "texts": len(candidates), "tokens": sum(len(c.token_ids) for c in candidates), "cores": os.cpu_count(),
        "found_s": round(found_s, 1), "engine_start_s": round(start_s, 1),
        "first_judging_s": round(seconds[0], 1), "second_judging_s": round(seconds[1], 1),
        "first_share": round(seconds[0] / found_s, 4), "second_share": round(seconds[1] / found_s, 4),
    }  # fmt: skip
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
