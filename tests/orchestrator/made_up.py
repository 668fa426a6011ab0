"""Jobs, attempts, verdicts and rows made up for tests that need no model."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from engine.certificate import Certificate
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from engine.target import Target
from orchestrator.results.run_record import ModelRecord, RunRecord
from orchestrator.run.rows import RowContext
from orchestrator.verifiers.contract import Verdict
from orchestrator.work.item import Item, State

K, D, T = 2, 3, 5
"""Vectors, hidden size and target tokens of everything here."""


ROW_CONTEXT = RowContext("recipe", "model", "float32", says=lambda ids: f"tokens {ids}")


def job(id: str, **recipe) -> Job:
    """The first attempt at a text of T tokens."""
    return Job(Target(id, f"text of {id}", tuple(range(1, T)) + (0,)), Recipe(**recipe), K)


def attempt(job: Job, *, is_solved: bool = True, slack: float = -1.5) -> Attempt:
    """What a solver would give back for a job; with a positive slack it is proved for beams."""
    prompt_KD = torch.arange(job.num_vectors * D, dtype=torch.float32).reshape(-1, D) / 7
    solved = Certificate(0.75, T, T, 0.125, 1.0, -0.625, slack)
    unsolved = Certificate(-0.25, 1, T, 2.5, 0.6, -12.5, -13.0)
    certificate = solved if is_solved else unsolved
    return Attempt(job, prompt_KD, certificate, steps=11, positions=13, seconds=0.5)


def verdict(id: str, *, exact: bool = True, first_mismatch: int = 2, refusal: str | None = None) -> Verdict:
    """What a verifier would say."""
    said = (1, 2, 3, 4, 0) if exact else () if refusal else (1, 2)
    return Verdict(id, exact, said, T if exact else first_mismatch, "made up 1", "float32", refusal)


def verified_item(id: str, row: int = 0) -> Item:
    """An item that went through the queue and was verified."""
    return Item(
        row, id, f"text of {id}", State.VERIFIED, job(id), None, attempt(job(id)), verdict(id), num_attempts=1, steps=11
    )


def run_record(**changes) -> RunRecord:
    """The record of a run of three rows."""
    recipe = changes.pop("recipe", Recipe())
    model = ModelRecord(
        name="pocket", revision=None, fingerprint="f" * 32, hidden_size=D, context=1024, solver_dtype="float32",
        device="cpu",
    )  # fmt: skip
    values = dict(
        schema_version=1, state="running", corpus="/corpus.jsonl", text_column="text", id_column="id", num_rows=3,
        model=model, recipe=recipe, recipe_hash=recipe.hash, seed=0, vector_plan=None, engine="hf 5",
        engine_dtype="float32", stop_margin=0.5, versions={}, python="3.11", started="2026-11-20T10:00:00+00:00",
        updated="2026-11-20T10:00:05+00:00", counts={"verified": 2}, seconds=5.0,
    )  # fmt: skip
    return RunRecord(**values | changes)


def flip_a_bit_of_the_prompts(part: Path) -> None:
    """Damage one stored prompt of a part file, in the middle of the column's pages."""
    group = pq.read_metadata(part).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    chunk = next(column for column in columns if column.path_in_schema.startswith("prompt"))
    content = bytearray(part.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    part.write_bytes(content)


def noise_like(prompt_KD: np.ndarray) -> np.ndarray:
    """Random vectors of the same norms: as large as the prompt, and not it."""
    noise_KD = np.random.default_rng(0).standard_normal(prompt_KD.shape, dtype=np.float32)
    norms_K = np.linalg.norm(prompt_KD, axis=1, keepdims=True) / np.linalg.norm(noise_KD, axis=1, keepdims=True)
    return noise_KD * norms_K
