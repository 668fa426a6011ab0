"""What the page of a search is told.

Owns: figures over the study, the trials as columns, the costs a text. Must not know: files of the page, how it looks.

Names and ids are values in it, never keys, because they come from a folder.
"""

import json
import math
import shlex
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from engine.recipe import Recipe, to_toml
from orchestrator.pool.outcome import Outcome, OutcomeFile
from orchestrator.storage.location import name_of
from tune_spaces.headline import headline, is_base_best
from tune_spaces.hold_out import MEASURES, Comparison
from tune_spaces.objective import OBJECTIVES
from tune_spaces.progress import read_progress
from tune_spaces.record import TuneRecord
from tune_spaces.report.explained import explain
from tune_spaces.study import ended_trials, winner
from tune_spaces.table import LABELS

OUTCOMES = "outcomes.jsonl"
NUM_FIRST = 4
"""Texts that every trial met, whatever became of it: those of the first rung."""

FIGURES = ("cost", "exact_frac", "margin", "prefix_tokens", "positions", "texts")


def told(
    folder: Path,
    study: optuna.Study,
    record: TuneRecord,
    comparison: Comparison | None,
    note: str | None = None,
    state: str | None = None,
) -> dict[str, Any]:
    """All of it, as JSON takes it.

    Args:
        note: what is to be known besides, as a sentence without its full stop.
        state: of the search; None is what its folder says.
    """
    outcomes = _outcomes(folder)
    base = outcomes.get(record.base.hash, {})
    trials = ended_trials(study)
    texts = _texts(trials, base)
    best = winner(study)
    beat = comparison is not None and comparison.is_win
    return {
        "search": _search(folder, record, state),
        "headline": headline(study, record.base, comparison, note),
        "beat": beat,
        "is_base_best": is_base_best(study, record.base),
        "counts": Counter(LABELS[trial.state] for trial in trials).most_common(),
        "winner": None if best is None else best.number,
        "measure": "missing" if record.objective == "capacity" else "costs",
        "texts": texts,
        "base": [rounded(_share(base.get(id), record)) for id in texts["id"]],
        "base_hash": record.base.hash,
        "trials": _columns(trials, texts["id"], record),
        "held_out": _held_out(best, outcomes, record, comparison, set(texts["id"])),
        "explained": _explained(trials, record),
        "recipe": to_toml(_written(study, record, comparison), header=""),
    }


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Few digits; None where it is not a finite number."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


def _written(study: optuna.Study, record: TuneRecord, comparison: Comparison | None) -> Recipe:
    """The recipe of best.toml: the base where it was not beaten."""
    best = winner(study)
    if best is None or (comparison is not None and not comparison.is_win):
        return record.base
    return Recipe.model_validate_json(best.user_attrs["recipe"])


def _search(folder: Path, record: TuneRecord, state: str | None) -> dict[str, Any]:
    """About the search itself; a page may go to other people, so of a path its last part is enough."""
    progress, model = read_progress(folder), record.model
    return {
        "name": folder.resolve().name,
        "command": f"verbatim tune {shlex.quote(name_of(record.corpus).name)} --out {shlex.quote(str(folder))}",
        "corpus": name_of(record.corpus).name,
        "model": model if not model.startswith(("/", "~", ".")) else name_of(model).name,
        "dtype": record.dtype,
        "engine": record.engine,
        "engine_dtype": record.engine_dtype,
        "space": Path(record.space).name,
        "sampler": record.sampler,
        "stopping": record.stopping,
        "objective": record.objective,
        "unit": "tokens" if record.objective == "capacity" else "passes",
        "budget": record.budget,
        "num_texts": record.num_texts,
        "num_hold_out": record.num_hold_out,
        "state": state or (progress.state if progress else None),
        "num_trials": progress.trials if progress else None,
        "updated": progress.updated if progress else None,
        "seconds": round(progress.seconds, 1) if progress else None,
        "fingerprint": record.fingerprint,
        "study": record.study_name,
    }


def _outcomes(folder: Path) -> dict[str, dict[str, Outcome]]:
    """By recipe's hash and text's id."""
    found: dict[str, dict[str, Outcome]] = {}
    for recipe, outcome in OutcomeFile(folder / OUTCOMES).read():
        found.setdefault(recipe, {})[outcome.id] = outcome
    return found


def _texts(trials: list[FrozenTrial], base: dict[str, Outcome]) -> dict[str, Any]:
    """The texts that trials met, in the order in which they met them."""
    longest = max((trial.user_attrs.get("costs", ()) for trial in trials), key=len, default=())
    ids = [id for id, _ in longest]
    return {"id": ids, "tokens": [base[id].num_tokens if id in base else None for id in ids]}


def _share(outcome: Outcome | None, record: TuneRecord) -> float | None:
    """A text's share of what the objective goes by, the lower the better."""
    if outcome is None:
        return None
    return outcome.num_tokens - outcome.prefix_tokens if record.objective == "capacity" else outcome.cost


def _columns(trials: list[FrozenTrial], ids: list[str], record: TuneRecord) -> dict[str, Any]:
    paired, places = OBJECTIVES[record.objective].paired, {id: place for place, id in enumerate(ids)}
    columns: dict[str, Any] = {"number": [trial.number for trial in trials]}
    columns["state"] = [LABELS[trial.state] for trial in trials]
    columns |= {name: [rounded(trial.user_attrs.get(name)) for trial in trials] for name in FIGURES}
    columns["params"] = [json.dumps(trial.params) for trial in trials]
    columns["seconds"] = [round(trial.duration.total_seconds(), 1) if trial.duration else None for trial in trials]
    shares = [dict(trial.user_attrs.get(paired, ())) for trial in trials]
    columns["costs"] = [
        [rounded(share.get(id)) for id in list(places)[: len(share)]] if share else [] for share in shares
    ]
    columns["is_base"] = [_is_base(trial, record) for trial in trials]
    return columns


def _is_base(trial: FrozenTrial, record: TuneRecord) -> bool:
    recipe = trial.user_attrs.get("recipe")
    return recipe is not None and Recipe.model_validate_json(recipe).hash == record.base.hash


def _held_out(
    best: FrozenTrial | None,
    outcomes: dict[str, dict[str, Outcome]],
    record: TuneRecord,
    comparison: Comparison | None,
    searched: set[str],
) -> dict[str, Any] | None:
    """The winner and the base on texts that no trial saw, a text at a time."""
    if best is None or comparison is None:
        return None
    ours = outcomes.get(Recipe.model_validate_json(best.user_attrs["recipe"]).hash, {})
    theirs = outcomes.get(record.base.hash, {})
    _, share = MEASURES[comparison.measure]
    ids = [id for id in theirs if id in ours and id not in searched]
    return {
        **{name: rounded(value) if isinstance(value, float) else value for name, value in asdict(comparison).items()},
        "id": ids,
        "tokens": [theirs[id].num_tokens for id in ids],
        "winner": [rounded(share(ours[id])) for id in ids],
        "base": [rounded(share(theirs[id])) for id in ids],
    }


def _explained(trials: list[FrozenTrial], record: TuneRecord) -> dict[str, Any]:
    """What explains the costs on the first texts, of the trials that brought them to an end: what a text under way has
    cost by then is no cost."""
    paired, num_first = OBJECTIVES[record.objective].paired, min(NUM_FIRST, record.num_texts)
    ended = [t for t in trials if t.state is TrialState.COMPLETE or t.user_attrs.get("texts", 0) >= num_first]
    met = [trial for trial in ended if len(trial.user_attrs.get(paired, ())) >= num_first]
    first = [(trial.params, sum(cost for _, cost in trial.user_attrs[paired][:num_first])) for trial in met]
    found = explain(first)
    return {
        "num_trials": len(first),
        "num_tested": found.num_tested,
        "named": [[each.name, round(each.share, 3), each.best, each.num_trials] for each in found.named],
    }
