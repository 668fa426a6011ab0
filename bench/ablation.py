"""What does each method of the field add to exactness, at equal budgets?

    python bench/ablation.py                    all rows; finished ones are kept, so it can be stopped and gone on with
    python bench/ablation.py --only simctg      rows whose name holds this

Fixed texts of 8, 16 and 32 tokens from english_1k, K = T/4 and T/2, several seeds; every row is the violation norm's
recipe with one thing changed, or a recipe of the recipes folder whole; the best row is the default. Each attempt may
pass the same number of positions forward and backward, whatever a step of its recipe costs, and schedules run on that
budget; so rows compare at equal work and the machine's noise does not enter. Exactness is the solver's certificate;
every attempt's best prompt is also decoded freely with a KV cache, and what teacher forcing promised compared with it.
Writes bench/results/ablation.json; `python -m bench.ablation_report` makes the table and the picture of it.
"""

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from engine.decoding import greedy
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.model_source import ModelSource
from engine.monitors import monitor
from engine.recipe import load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target, make_target

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "ablation.json"
LENGTHS = (8, 16, 32)
RATIOS = (4, 2)
BUDGET_STEPS = 150
"""Steps the default gets: the budget is so many passes over K + T - 1 positions."""

BASE = ["loss.name=violation_norm"]
"""What every row but the default and the whole recipes starts from: the default of which it is the one change."""

EPS = 'context.eps={kind="linear",start=1.0,end=0.2}'
GROUPS: dict[str, dict[str, list[str]]] = {
    "loss": {
        "default": [],
        "violation norm alone": [],
        "p 2": ["loss.p=2"],
        "p 4": ["loss.p=4"],
        "p 6": ["loss.p=6"],
        "squared hinge": ["loss.name=squared_hinge"],
        "hinge": ["loss.name=hinge"],
        "soft hinge": ["loss.name=soft_hinge"],
        "cross-entropy": ["loss.name=cross_entropy"],
        "focal": ["loss.name=focal"],
        "margin 2": ["loss.margin=2"],
        "margin annealed 3 to 1": ['loss.margin_factor={kind="linear",start=3,end=1}'],
        "prefix weight 3": ["loss.prefix_weight=3"],
        "leading weight 3 on 2": ["loss.num_leading=2"],
    },
    "term": {
        "+ cross-entropy 0.1": ["terms.cross_entropy=0.1"],
        "+ focal 0.1": ["terms.focal=0.1"],
        "+ squared hinge 0.1": ["terms.squared_hinge=0.1"],
        "+ soft hinge 0.1": ["terms.soft_hinge=0.1"],
        "+ unlikelihood 0.5": ["terms.unlikelihood=0.5"],
        "+ sequence unlikelihood 0.5": ["terms.sequence_unlikelihood=0.5"],
        "+ SimCTG 0.2": ["terms.simctg=0.2"],
        "+ entropy 0.1": ["terms.entropy=0.1"],
        "+ autoregressive 0.2": ["terms.autoregressive=0.2"],
        "+ REINFORCE 0.1": ["terms.reinforce=0.1"],
        "+ RLOO 0.1": ["terms.rloo=0.1"],
        "+ minimum risk 0.1": ["terms.minimum_risk=0.1"],
        "+ optimal completion 0.2": ["terms.optimal_completion=0.2"],
        "+ professor forcing 0.1": ["terms.professor_forcing=0.1"],
        "+ prompt perplexity 0.1": ["terms.prompt_perplexity=0.1"],
        "+ manifold 0.1": ["terms.manifold=0.1"],
        "gradient aligned to cross-entropy": ["optim.align_to=cross_entropy"],
    },
    "context": {
        "scheduled sampling": ["context.name=scheduled_sampling", EPS],
        "embedding mix": ["context.name=embedding_mix", EPS],
        "two-pass sampling": ["context.name=two_pass", EPS],
        "free running": ["context.name=free_running"],
        "soft decoding": ["context.name=soft_decoding", 'context.guidance_alpha={kind="linear",start=1,end=0.2}'],
        "Gumbel-softmax": ["context.name=gumbel_softmax", 'context.temperature={kind="linear",start=1,end=0.5}',
                           'context.guidance_alpha={kind="linear",start=1,end=0.2}'],
        "MIXER with RLOO": ["context.name=mixer", "terms.rloo=0.1",
                            'context.forced_frac={kind="linear",start=1,end=0.5}'],
        "noise 0.01 on the prompt": ["noise.kind=fixed"],
        "noise 0.1 on prompt and reads": ["noise.kind=fixed", "noise.prompt=0.1", "noise.read=0.1"],
        "sampled noise 0.5": ["noise.kind=sampled", "noise.prompt=0.5"],
    },
    "parameterisation and start": {
        "MLP": ["parameterisation.name=mlp"],
        "low rank 4": ["parameterisation.name=low_rank"],
        "convex": ["parameterisation.name=convex"],
        "served in bfloat16": ["parameterisation.serving_dtype=bfloat16"],
        "served in int8": ["parameterisation.serving_dtype=int8"],
        "vocabulary start": ["start.name=vocabulary"],
        "random start": ["start.name=random"],
        "mean start": ["start.name=mean"],
        "neighbour's prompt as start": ["start.name=neighbour"],
    },
    "curriculum and optimiser": {
        "growth by one token": ["curriculum.growth=one_token"],
        "growth geometric": ["curriculum.growth=geometric"],
        "growth bisecting": ["curriculum.growth=bisect"],
        "lr 0.35": ["optim.lr=0.35"],
        "lr 1.4": ["optim.lr=1.4"],
        "constant lr": ["optim.decay=constant"],
        "warm-up 10 %": ["optim.warmup_frac=0.1"],
        "beta1 0.8": ["optim.beta1=0.8"],
        "beta1 0.9": ["optim.beta1=0.9"],
        "norm at most 3": ["optim.max_rms=3"],
        "two siblings": ["siblings=2"],
        "SGD, momentum 0.8": ["optim.name=sgd", "optim.lr=0.3"],
    },
}  # fmt: skip


def recipes() -> dict[str, tuple[str, list[str], Path | None]]:
    """Row name to group, overrides and file."""
    rows: dict[str, tuple[str, list[str], Path | None]] = {
        name: (group, sets if name == "default" else [*BASE, *sets], None)
        for group, by_name in GROUPS.items()
        for name, sets in by_name.items()
    }
    for path in sorted((ROOT / "recipes").glob("*.toml")):
        if path.stem != "default":
            rows[path.stem] = ("recipe", [], path)
    return rows


def pick_targets(lm: FrozenLM, per_length: int) -> list[Target]:
    """The first texts of exactly 8, 16 and 32 tokens, the end-of-text token counted."""
    import pyarrow.parquet as pq  # here, so that the rows can be had where there is no Parquet

    chosen: dict[int, list[Target]] = {length: [] for length in LENGTHS}
    for row in pq.read_table(ROOT / "corpora" / "english_1k.parquet").to_pylist():
        target = make_target(lm.token_rule, row["id"], row["text"])
        if isinstance(target, Target) and len(chosen.get(len(target.token_ids), [None] * per_length)) < per_length:
            chosen[len(target.token_ids)].append(target)
    return [target for targets in chosen.values() for target in targets]


def jobs_of(targets: list[Target], sets: list[str], path: Path | None, seeds: int, max_steps: int) -> list[Job]:
    """One attempt a text, K and seed, at the same budget of positions."""
    jobs = []
    for target in targets:
        for ratio in RATIOS:
            num_vectors = len(target.token_ids) // ratio
            budget = max_steps * (num_vectors + len(target.token_ids) - 1)
            for seed in range(seeds):
                fixed = [f"seed={seed}", f"max_steps={max_steps}", f"max_positions={budget}"]
                jobs.append(Job(target, load_recipe(path, [*sets, *fixed]), num_vectors))
    return jobs


def figures(lm: FrozenLM, attempts: list[Attempt]) -> dict:
    """One row: counts, means with 95 % intervals, and what free running says of the certified and of the rest."""
    attempts = sorted(attempts, key=lambda a: (a.job.target.id, a.job.num_vectors, a.job.recipe.seed))
    exact = [a for a in attempts if a.exact_positions is not None]
    budgets = [a.job.recipe.max_positions for a in attempts]
    spent = [
        budget if a.exact_positions is None else a.exact_positions for a, budget in zip(attempts, budgets, strict=True)
    ]
    steps = [a.job.recipe.max_steps if a.exact_steps is None else a.exact_steps for a in attempts]
    shares = [100 * tokens / budget for tokens, budget in zip(spent, budgets, strict=True)]
    seen = [monitor(a.certificate, _said(lm, a), a.job.target) for a in attempts if a.certificate]
    margins = [a.certificate.min_margin for a in exact if a.certificate]
    missed = [m for m in seen if m.diagnosis != "exact"]
    return {
        "attempts": len(attempts),
        "exact": len(exact),
        "exact_interval": wilson(len(exact), len(attempts)),
        "steps": statistics.mean(steps),
        "steps_interval": bootstrap(steps),
        "positions": statistics.mean(spent),
        "positions_interval": bootstrap(spent),
        "budget_share": statistics.mean(shares),
        "budget_share_interval": bootstrap(shares),
        "with_margin": sum(a.is_candidate and a.certificate.min_margin >= 0.5 for a in attempts if a.certificate),
        "margin": statistics.median(margins) if margins else None,
        "certified_and_free_running_exact": sum(m.diagnosis == "exact" for m in seen),
        "certified": sum(a.is_candidate for a in attempts),
        "gap": statistics.mean(m.gap for m in seen),
        "missed_gap": statistics.mean(m.gap for m in missed) if missed else None,
        "missed_nats": statistics.mean(m.teacher_forced_nats for m in missed) if missed else None,
        "diagnoses": {kind: sum(m.diagnosis == kind for m in seen) for kind in sorted({m.diagnosis for m in seen})},
        # In one order for all rows, so that rows can be paired: length, K, steps to exact or null, positions spent.
        "per_attempt": [
            [len(a.job.target.token_ids), a.job.num_vectors, a.exact_steps, tokens]
            for a, tokens in zip(attempts, spent, strict=True)
        ],
    }


def wilson(successes: float, trials: int) -> list[float]:
    """95 % interval of a share. Source: Wilson 1927."""
    z, share = 1.96, successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return [centre - half, centre + half]


def bootstrap(values: Sequence[float], draws: int = 2000) -> list[float]:
    """95 % interval of a mean, by resampling."""
    stream = random.Random(0)
    means = sorted(statistics.fmean(stream.choices(values, k=len(values))) for _ in range(draws))
    return [means[int(0.025 * draws)], means[int(0.975 * draws)]]


def _said(lm: FrozenLM, attempt: Attempt) -> list[int]:
    return greedy(lm, held(attempt.prompt_KD)[None], max_tokens=len(attempt.job.target.token_ids))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=3, help="of each length")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--max-steps", type=int, default=BUDGET_STEPS)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lm = FrozenLM.load(ModelSource())
    targets = pick_targets(lm, args.texts)
    setting = {
        "model": lm.fingerprint, "texts": args.texts, "seeds": args.seeds, "max_steps": args.max_steps,
        "torch": torch.__version__,
    }  # fmt: skip
    record = json.loads(args.out.read_text()) if args.out.exists() else {}
    if record.get("setting") != setting:
        record = {"setting": setting, "rows": {}}
    for name, (group, sets, path) in recipes().items():
        jobs = jobs_of(targets, sets, path, args.seeds, args.max_steps)
        hash = jobs[0].recipe.hash
        if args.only not in name or record["rows"].get(name, {}).get("hash") == hash:
            continue
        started = time.monotonic()
        row = {"group": group, "sets": sets, "hash": hash} | figures(lm, Solver(lm, table_positions=4096).solve(jobs))
        record["rows"][name] = row
        args.out.write_text(json.dumps(record) + "\n")
        print(f"{name:<36} {row['exact']:>3}/{row['attempts']}  steps {row['steps']:6.1f}  "
              f"budget {row['budget_share']:5.1f} %  {time.monotonic() - started:5.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
