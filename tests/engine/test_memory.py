"""What a solver keeps: prompts and states, and nothing of the packs that they were made in."""

from typing import Any

import pytest
import torch

from engine.checkpoint import from_bytes, to_bytes
from engine.solver import Solver
from tests.engine.jobs import job_of


def storages(value: Any) -> list[tuple[int, int]]:
    """Bytes of each tensor in a value, and bytes it keeps in memory."""
    if isinstance(value, torch.Tensor):
        return [(value.numel() * value.element_size(), value.untyped_storage().nbytes())]
    if isinstance(value, dict | list | tuple):
        items = value.values() if isinstance(value, dict) else value
        return [size for item in items for size in storages(item)]
    return storages(vars(value)) if hasattr(value, "prompt_KD") else []


@pytest.mark.parametrize("parameterisation", ["direct", "mlp", "low_rank"])
def test_nothing_that_outlives_a_step_keeps_the_pack_it_was_made_in(parameterisation, tiny_llama):
    """A view of a pack of 40 slots would keep 40 times its size."""
    overrides = (f"parameterisation.name={parameterisation}", "parameterisation.width=0.1", "start.name=neighbour")
    jobs = [job_of(tiny_llama, text, "max_steps=9", *overrides) for text in ("Ada!", "ab", "verbatim", "a b c")]
    solver, attempts = Solver(tiny_llama), []
    for job in jobs:
        solver.submit(job)
    for _ in range(4):
        attempts += solver.step()
    kept = [slot.state_dict() for slot in solver.active] + [slot.best for slot in solver.active]
    restored = [from_bytes(to_bytes(checkpoint), checkpoint.job.target) for checkpoint in solver.checkpoints()]
    while not solver.is_idle:
        attempts += solver.step()
    kept += [*attempts, *(checkpoint.states for checkpoint in restored if checkpoint)]
    sizes = storages(kept)
    assert len(sizes) > 20 and all(held == size for size, held in sizes)


@pytest.mark.parametrize("start", ["target", "neighbour"])
def test_solved_prompts_are_kept_for_the_recipes_that_borrow_them_and_no_larger_than_they_are(start, tiny_llama):
    solver = Solver(tiny_llama)
    attempts = solver.solve([job_of(tiny_llama, text, f"start.name={start}") for text in ("ab", "abc", "x")])
    assert all(attempt.is_candidate for attempt in attempts)
    assert len(solver.solved.entries) == (3 if start == "neighbour" else 0)
    assert all(held == size for size, held in storages([prompt_KD for _, prompt_KD in solver.solved.entries]))
