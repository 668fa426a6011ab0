"""The arms of bench/correction.py that do arithmetic of their own."""

from dataclasses import replace

import pytest
import torch

from bench.correction import _retried, features, ridge, rows_of, solved_arms, stretched
from engine.samples import sample_targets
from tests.engine.jobs import NEVER, job_of, solve
from tests.engine.slow import seeded


def test_ridge_finds_the_map_that_made_its_values():
    features_NF = torch.randn(4000, 7, generator=seeded(1))
    weight_FD = torch.randn(7, 3, generator=seeded(2))
    torch.testing.assert_close(ridge(features_NF, features_NF @ weight_FD), weight_FD, rtol=0, atol=0.03)


def test_a_prompt_is_stretched_evenly():
    prompt_KD = torch.arange(3.0)[:, None]
    assert stretched(prompt_KD, 5).flatten().tolist() == [0, 0, 1, 2, 2]
    assert stretched(prompt_KD, 1).tolist() == [[0]] and torch.equal(stretched(prompt_KD, 3), prompt_KD)


def test_a_vectors_features_are_its_own_tokens(tiny_llama):
    (target, *_) = sample_targets(tiny_llama.token_rule, 8)
    rows = features(tiny_llama, target, 2)
    own = tiny_llama.embed(torch.tensor(target.token_ids)).reshape(2, -1) / tiny_llama.embed_rms
    torch.testing.assert_close(rows, torch.cat([own, torch.ones(2, 1)], 1))


def test_every_start_of_solved_prompts_fits_a_text_of_another_length(tiny_llama):
    bank = list(solve(tiny_llama, job_of(tiny_llama, "Ada!"), job_of(tiny_llama, "ab")).values())
    (target, *_) = sample_targets(tiny_llama.token_rule, 8)
    for start in solved_arms(tiny_llama, bank).values():
        assert start(target, 3).shape == (3, tiny_llama.hidden_size)


@pytest.mark.parametrize("rule", ["grow", "correct"])
def test_retried_attempts_are_charged_together(rule, tiny_llama):
    job = replace(job_of(tiny_llama, "Ada!", f"after_failure={rule}", *NEVER, "max_steps=3"), owner="arm")
    (attempt,) = _retried(tiny_llama, [job], attempts=2)
    assert attempt.steps == 6 and attempt.positions == 2 * 4 * job.num_positions
    (row,) = rows_of([attempt], "arm")
    assert (row["solved"], row["mean_steps"], row["mean_positions"], row["ratio"]) == (0, 6, attempt.positions, 1)
