"""Outcomes, studies and records made up for tests that need no model."""

from pathlib import Path

import optuna

from engine.recipe import Recipe
from orchestrator.pool.outcome import Outcome
from tune_spaces.objective import OBJECTIVES
from tune_spaces.record import TuneRecord
from tune_spaces.search import StudySearch
from tune_spaces.spaces import space
from tune_spaces.study import open_study

NUM_TEXTS = 4


NUM_TOKENS = 20


def outcome(
    id: str, cost: float, *, exact: bool = True, margin: float | None = 0.5, prefix_tokens: int = NUM_TOKENS
) -> Outcome:
    """What became of one text."""
    return Outcome(
        id, exact, cost, positions=int(cost * 10), steps=int(cost), attempts=1, min_margin=margin,
        prefix_tokens=prefix_tokens, num_tokens=NUM_TOKENS,
    )  # fmt: skip


def report(*costs: float, **changes) -> dict:
    """What a trial reports after so many texts."""
    figures = {
        "cost": sum(costs) / len(costs), "exact_frac": 1.0, "margin": 0.5, "positions": 7, "texts": len(costs),
        "prefix_tokens": 20.0, "missing": [(f"text {i}", 0) for i in range(len(costs))],
        "costs": [(f"text {i}", cost) for i, cost in enumerate(costs)], "training_iteration": 1,
    }  # fmt: skip
    return figures | changes


def study_in(folder: Path, name: str = "verbatim-quick-0", objective: str = "cost", **changes) -> optuna.Study:
    """The folder's study, opened as a search would."""
    settings = {"sampler": "random", "seed": 0} | changes
    return open_study(folder, name, OBJECTIVES[objective], **settings)


def search_on(study: optuna.Study, objective: str = "cost", num_texts: int = NUM_TEXTS, **changes) -> StudySearch:
    """A search over the quick space from the default recipe."""
    return StudySearch(study, space("quick"), Recipe(), OBJECTIVES[objective], num_texts, **changes)


def tune_record(**changes) -> TuneRecord:
    """The record of a search."""
    values = dict(
        corpus="/corpus.jsonl", corpus_fingerprint="0" * 16, text_column="text", id_column="id", model="pocket",
        revision=None, fingerprint="f" * 32,
        dtype="float32", engine="hf 5", engine_dtype="float32", base=Recipe(), vector_plan=((8, 2),), space="quick",
        space_fingerprint="0" * 16, objective="cost", sampler="tpe", stopping="wilcoxon", texts=NUM_TEXTS, hold_out=2,
        budget=100.0, seed=0, sizes=(NUM_TEXTS, 2),
    )  # fmt: skip
    return TuneRecord(**values | changes)
