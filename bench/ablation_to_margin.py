"""What does each method add, judged by what a run asks for: the margin at which an attempt is done?

    python -m bench.ablation_to_margin --model pocket --minutes 30
    python -m bench.ablation_to_margin --model DIR --minutes 3 --device cuda --table 16384 --cheap
    python -m bench.ablation_margin_report

Every row is the default recipe with one thing changed, or a whole recipe from `recipes/`. A case is a text of its own
with a K and a random stream; every row attempts it with the same positions, and all siblings' work counts. Cases are
taken in one order while the time lasts; counted are those before the first that some row had not finished. What is
certified is then decoded freely, with a KV cache; the command ends with 1 if that is ever another text.

Owns: the rows, the cases, what is counted. Must not know: Ray, vLLM, Parquet. Adds to
bench/results/ablation_to_margin.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.ablation import GROUPS, ROOT
from bench.beam_certificate import cut
from bench.english import sentences
from engine.contexts import policy_of
from engine.decoding.trajectory import greedy_tokens
from engine.frozen_lm import FrozenLM, TokenRule
from engine.held import held
from engine.losses import ROLLOUT_TERMS, SAMPLE_TERMS
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target

RESULTS = ROOT / "bench" / "results" / "ablation_to_margin.json"
LENGTHS, RATIOS, STREAMS = (8, 16, 32), (4, 2), 2
STOP_MARGIN = Recipe().stop_margin
"""Logits, for every row; published recipes would stop at the first exact step."""

NORM = ["loss.name=violation_norm"]
LEFT_OUT = {"p 4", "+ cross-entropy 0.1", "lr 0.35", "lr 1.4", "beta1 0.8", "two siblings", "cross-entropy"}
"""Rows of the older ablation that are the default of today, or another row, or changed what it no longer has."""

OWN: dict[str, dict[str, list[str]]] = {
    "loss": {
        "violation norm alone": NORM,
        "p 2": [*NORM, "loss.p=2"],
        "p 6": [*NORM, "loss.p=6"],
        "margin 2": [*NORM, "loss.margin=2"],
        "margin annealed 3 to 1": [*NORM, 'loss.margin_factor={kind="linear",start=3,end=1}'],
        "violation mix, Adam": ["loss.name=violation_mix", "loss.p=3", "optim.name=adam", "optim.beta2=0.9",
                                "optim.lr=0.7"],
        "never the norm": ["loss.patience=0"],
        "temperature 1": ["loss.temperature=1"],
        "temperature 0.25": ["loss.temperature=0.25"],
        "+ violation norm 0.1": ["terms.violation_norm=0.1"],
    },
    "curriculum and optimiser": {
        "Adam 0.7": ["optim.name=adam", "optim.beta2=0.9", "optim.lr=0.7"],
        "Adam 0.2": ["optim.name=adam", "optim.beta2=0.9", "optim.lr=0.2"],
        "longest step 0.3": ["optim.lr=0.3"],
        "longest step 3": ["optim.lr=3"],
        "beta1 0.5": ["optim.beta1=0.5"],
        "starts twice as large": ["start.scale=2"],
    },
    "population": {
        "two siblings": ["siblings=2"],
        "4 siblings, halved": ["siblings=4", "population.cull_after=8"],
        "4 siblings, renewed": ["siblings=4", "population.cull_after=8", "population.renewal=noise"],
    },
}  # fmt: skip


@dataclass
class Case:
    """A text of its own, with its K and its stream."""

    target: Target
    num_vectors: int
    stream: int


def rows() -> dict[str, tuple[str, Recipe]]:
    """Group and recipe by name; the default first."""
    changes = {"default": ("default", [])}
    for by_group in (GROUPS, OWN):
        for group, by_name in by_group.items():
            kept = {name: sets for name, sets in by_name.items() if by_group is OWN or name not in LEFT_OUT}
            changes |= {name: (group, sets) for name, sets in kept.items() if name != "default"}
    made = {name: (group, load_recipe(None, sets)) for name, (group, sets) in changes.items()}
    shipped = sorted((ROOT / "recipes").glob("*.toml"))
    return made | {path.stem: ("recipe", load_recipe(path)) for path in shipped if path.stem not in ("default", "beam")}


def is_cheap(recipe: Recipe) -> bool:
    """Whether no step walks through a text token by token, nor looks at the whole vocabulary for every text."""
    return all(
        not policy_of(stage.context).walks(stage.context)
        and stage.context.name not in ("soft_decoding", "gumbel_softmax", "mixer")
        and stage.terms.manifold == 0
        and not any(getattr(stage.terms, name) != 0 for name in (*ROLLOUT_TERMS, *SAMPLE_TERMS))
        for stage in recipe.by_stage()
    )


def cases(rule: TokenRule) -> Iterator[Case]:
    """Lengths, K and streams in turn, each text once."""
    number = 0
    for n, text in enumerate(sentences()):
        length = LENGTHS[number % len(LENGTHS)]
        ratio = RATIOS[number // len(LENGTHS) % len(RATIOS)]
        target = cut(rule, text, length, f"english-{n}")
        if target is not None:
            yield Case(target, length // ratio, number // (len(LENGTHS) * len(RATIOS)) % STREAMS)
            number += 1


def job_of(name: str, recipe: Recipe, place: int, case: Case, passes: int) -> Job:
    """One attempt at a case, at the same budget of positions for every row; schedules run on that budget."""
    one_pass = case.num_vectors + len(case.target.token_ids) - 1
    budget = passes * one_pass
    shares = recipe.siblings if recipe.population.renewal != "none" or not recipe.population.cull_after else 1
    bounds = {"max_steps": passes, "max_positions": budget // shares, "stop_margin": STOP_MARGIN}
    bounded = recipe.model_copy(update=bounds)
    return Job(
        case.target, bounded, case.num_vectors, attempt=case.stream, owner=f"{place}/{name}", budget=float(budget)
    )


def run(lm: FrozenLM, chosen: dict[str, Recipe], args: argparse.Namespace) -> dict[int, dict[str, Attempt]]:
    """Attempts by case and row, of the cases before the first unfinished one."""
    solver, waiting, ends = Solver(lm, table_positions=args.table), enumerate(cases(lm.token_rule)), _end_of(args)
    ended: dict[int, dict[str, Attempt]] = {}
    is_more = True
    while time.monotonic() < ends and (is_more or not solver.is_idle):
        if is_more and not solver.waiting:
            place, case = next(waiting, (0, None))
            is_more = case is not None and place < args.cases
            if case is not None and is_more:
                ended[place] = {}
                for name, recipe in chosen.items():
                    solver.submit(job_of(name, recipe, place, case, args.passes))
        for attempt in solver.step():
            place, name = attempt.job.owner.split("/", 1)
            ended[int(place)][name] = attempt
        if solver.num_steps % 100 == 0:
            print(f"step {solver.num_steps}, {len(ended)} cases begun", flush=True)
    first = min((place for place, by_name in ended.items() if len(by_name) < len(chosen)), default=len(ended))
    return {place: by_name for place, by_name in ended.items() if place < first}


def _end_of(args: argparse.Namespace) -> float:
    return time.monotonic() + 60 * args.minutes


def said(lm: FrozenLM, attempts: list[Attempt]) -> list[bool]:
    """Whether free decoding with a KV cache says each attempt's text."""
    told: list[bool] = []
    for begin in range(0, len(attempts), 256):
        some = attempts[begin : begin + 256]
        longest = max(len(a.job.target.token_ids) for a in some)
        ids_BT = greedy_tokens(lm, [held(a.prompt_KD).to(lm.device) for a in some], longest)
        for ids_T, attempt in zip(ids_BT.tolist(), some, strict=True):
            told.append(tuple(ids_T[: len(attempt.job.target.token_ids)]) == attempt.job.target.token_ids)
    return told


def figures(lm: FrozenLM, by_case: dict[int, dict[str, Attempt]], name: str, passes: int) -> dict[str, Any]:
    """One row: what was reached and said, and each case's share of the budget."""
    attempts = [by_name[name] for _, by_name in sorted(by_case.items())]
    certified = [a for a in attempts if a.is_candidate]
    return {
        "done": sum(a.has_margin for a in attempts),
        "certified": len(certified),
        "said": sum(said(lm, certified)),
        # Length, K, whether the margin was reached, passes over the text: paired between rows.
        "cases": [
            [
                len(a.job.target.token_ids),
                a.job.num_vectors,
                a.has_margin,
                round(min(1.0, a.positions / a.job.budget) * passes, 2),
            ]
            for a in attempts
        ],
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a name, or a model's folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--cases", type=int, default=10_000, help="most cases")
    parser.add_argument("--passes", type=int, default=200, help="over a text with its vectors: the budget of every row")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="rows whose name holds one of these; the default always"
    )
    parser.add_argument("--cheap", action="store_true", help="no rows that walk through texts token by token")
    parser.add_argument("--table", type=int, default=4096, help="positions in the solver's table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    lm = FrozenLM.load(ModelSource(args.model), device=args.device)
    chosen = {
        name: recipe
        for name, (_, recipe) in rows().items()
        if name == "default" or (any(o in name for o in args.only) and (is_cheap(recipe) or not args.cheap))
    }
    by_case = run(lm, chosen, args)
    if not by_case:
        sys.exit("no case was finished by every row: give it more --minutes, or fewer rows by --only and --cheap")
    made = {name: {"group": rows()[name][0]} | figures(lm, by_case, name, args.passes) for name in chosen}
    for name, row in made.items():
        print(f"{name:<36} {row['done']:>4} of {len(by_case)}, certified {row['certified']}, said {row['said']}")
    kept = json.loads(args.out.read_text()) if args.out.exists() else {}
    kept[Path(args.model).name] = {
        "fingerprint": lm.fingerprint, "passes": args.passes, "torch": torch.__version__, "rows": made,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
    }  # fmt: skip
    args.out.write_text(json.dumps(kept) + "\n")
    sys.exit(int(any(row["said"] < row["certified"] for row in made.values())))


if __name__ == "__main__":
    main()
