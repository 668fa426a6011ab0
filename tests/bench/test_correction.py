"""The arms of bench/correction.py that do arithmetic of their own."""

from dataclasses import replace

import pytest

from bench.correction import _retried, rows_of
from tests.engine.jobs import NEVER, job_of


@pytest.mark.parametrize("rule", ["grow", "correct"])
def test_retried_attempts_are_charged_together(rule, tiny_llama):
    job = replace(job_of(tiny_llama, "Ada!", f"after_failure={rule}", *NEVER, "max_steps=3"), owner="arm")
    (attempt,) = _retried(tiny_llama, [job], attempts=2)
    assert attempt.steps == 6 and attempt.positions == 2 * 4 * job.num_positions
    (row,) = rows_of([attempt], "arm")
    assert (row["solved"], row["mean_steps"], row["mean_positions"], row["ratio"]) == (0, 6, attempt.positions, 1)
