"""Jobs for the solver's tests, and ways to run them.

Owns: what test_solver and test_company share. K soft-prompt vectors, D hidden size.
"""

import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.recipe import load_recipe
from engine.slots import Attempt, Job, Slot
from engine.solver import Solver
from engine.target import make_target

K = 5
TEXTS = ("Ada!", "ab", "verbatim", "a b c", "x")
PINNED = (
    "max_steps=100", "stop_margin=0.5", "loss.name=violation_mix", "loss.margin=1", "loss.p=4", "loss.temperature=1",
    "loss.patience=0", "optim.name=adam", "optim.lr=2", "optim.beta1=0.8", "optim.beta2=0.9", "start.name=vocabulary",
)  # fmt: skip
"""Values that solve the texts on every tiny model, so that the recipe's defaults may change."""

NEVER = ("stop_margin=100", "loss.margin=100")
"""Overrides under which no slot is ever certified, so that every one runs its `max_steps`."""


def job_of(lm: FrozenLM, text: str, *overrides: str, num_vectors: int = K, **fields) -> Job:
    """One attempt at a text, which is its own id."""
    recipe = load_recipe(None, [*PINNED, *overrides])
    return Job(make_target(lm.token_rule, text, text), recipe, num_vectors, **fields)


def solve(lm: FrozenLM, *jobs: Job, table_positions: int = 2048) -> dict[str, Attempt]:
    """Attempts by text."""
    return {attempt.job.target.id: attempt for attempt in Solver(lm, table_positions=table_positions).solve(list(jobs))}


def slots_after(lm: FrozenLM, num_steps: int, *jobs: Job) -> list[Slot]:
    """All slots after some steps in company, none of them ended."""
    solver = Solver(lm)
    for job in jobs:
        solver.submit(job)
    for _ in range(num_steps):
        assert solver.step() == []
    return solver.active


def assert_same_path(ours_KD: Tensor, theirs_KD: Tensor, lm: FrozenLM) -> None:
    """Equal but for rounding, which grows from step to step and differs between processors (up to 2.2e-3 of the
    embedding's size was measured, 2026-11-25); the steps themselves are 100 times as long and more."""
    torch.testing.assert_close(ours_KD, theirs_KD, rtol=0, atol=5e-3 * lm.embed_rms)
