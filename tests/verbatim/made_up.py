"""Runs' folders with made-up rows, written by the ledger itself.

Owns: rows that look like a run's. Must not know: models.
"""

import random
from pathlib import Path

import numpy as np

from engine.recipe import Recipe
from orchestrator.results.ledger import SCHEMA_VERSION, Ledger, Row
from orchestrator.results.run_record import ModelRecord, RunRecord

WORDS = "the sea was calm and a white whale rose slowly near our old ship in morning light".split()
NO_ROW: Row = {"reason": None, "proof": None, "exact": False, "text_exact": False, "rung": None}
OF_AN_ATTEMPT = (
    "token_ids", "spelling", "engine", "engine_dtype", "generated_ids", "num_vectors", "hidden_size", "prompt",
    "min_margin", "engine_margin", "log_prob", "beam_slack", "first_mismatch", "teacher_forced_nats", "token_accuracy",
    "seq_rep_4", "diagnosis",
)  # fmt: skip


def made_row(number: int, *, status: str = "verified", num_vectors: int = 4, hidden_size: int = 8, **told) -> Row:
    """A row of a run; the same for the same number."""
    draw = random.Random(number)
    text = told.pop("text", " ".join(draw.choices(WORDS, k=4 + number % 29)))
    common = NO_ROW | {
        "id": f"row-{number}", "row": number, "text": text, "status": status, "steps": 5 + len(text) // 3,
        "positions": 10 * len(text), "attempts": 1, "recipe_hash": "r", "model_fingerprint": "f",
        "solver_dtype": "float32", "seconds": 0.5,
    }  # fmt: skip
    if status == "invalid":
        return (
            dict.fromkeys(OF_AN_ATTEMPT)
            | common
            | {"reason": "empty", "attempts": 0, "steps": 0, "positions": 0}
            | told
        )
    is_exact = status == "verified"
    ids = [draw.randrange(1, 250) for _ in text.split()] + [0]
    mismatch = len(ids) if is_exact else draw.randrange(len(ids))
    said = ids if is_exact else [*ids[:mismatch], 251, *ids[mismatch + 1 :]]
    judged = {"engine": "hf 5.19.0", "engine_dtype": "float32"} if is_exact or status == "rejected" else {}
    attempt = {
        "token_ids": ids, "spelling": "plain", "generated_ids": said, "num_vectors": num_vectors,
        "hidden_size": hidden_size, "prompt": _prompt(number, num_vectors * hidden_size),
        "min_margin": draw.uniform(0.5, 3) if is_exact else -draw.random(), "first_mismatch": mismatch,
        "teacher_forced_nats": 0.1, "token_accuracy": mismatch / len(ids), "seq_rep_4": 0.0,
        "diagnosis": "exact" if is_exact else draw.choice(["drift", "loop", "late_stop"]),
    }  # fmt: skip
    verdict = {"exact": True, "text_exact": True, "rung": "greedy", "proof": "greedy"} if is_exact else {}
    reason = {} if is_exact else {"reason": "no certified prompt", "rung": "none"}
    return dict.fromkeys(OF_AN_ATTEMPT) | common | attempt | judged | reason | verdict | told


def make_run(folder: Path, *parts: list[Row], model: str = "pocket") -> Path:
    """A finished run's folder that holds these rows."""
    ledger = Ledger(folder)
    for rows in parts:
        ledger.commit(rows)
    record(sum(map(len, parts)), model).write(folder)
    return folder


def record(num_rows: int, model: str = "pocket") -> RunRecord:
    """What a run writes of itself."""
    return RunRecord(
        schema_version=SCHEMA_VERSION, state="finished", corpus="/corpora/made_up.parquet", text_column="text",
        id_column=None, num_rows=num_rows,
        model=ModelRecord(
            name=model, revision=None, fingerprint="f", hidden_size=8, context=1024, solver_dtype="float32",
            device="cpu",
        ),
        recipe=Recipe(), recipe_hash="r", seed=0, vector_plan=[(8, 2)], engine="hf 5.19.0", engine_dtype="float32",
        stop_margin=0.5, versions={"verbatim": "0.1.0"}, python="3.11", started="2026-11-26T10:00:00+00:00",
        updated="2026-11-26T10:01:00+00:00", counts={}, seconds=60.0,
    )  # fmt: skip


def _prompt(seed: int, size: int) -> list[float]:
    return np.random.default_rng(seed).standard_normal(size, np.float32).tolist()
