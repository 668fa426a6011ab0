"""Correction without training: the next attempt goes on where the last one broke."""

from dataclasses import replace

import torch

from engine.certificate import Certificate
from engine.correction.iterated import corrected
from engine.slots import Attempt
from engine.solver import Solver
from engine.training import FOCUS_WEIGHT, position_weights_of
from tests.engine.jobs import NEVER, K, job_of


def failed(lm, first_mismatch=2, **values):
    job = job_of(lm, "verbatim", "after_failure=correct", *NEVER)
    prompt_KD = torch.full((K, lm.hidden_size), 0.5)
    certificate = Certificate(-1.0, first_mismatch, len(job.target.token_ids))
    return Attempt(job, prompt_KD, certificate, steps=3, positions=9, seconds=0.1, **values)


def test_it_goes_on_from_the_best_prompt_weighed_where_decoding_breaks_off(tiny_llama):
    attempt = failed(tiny_llama)
    job = corrected(replace(attempt.job, attempt=1, num_vectors=K + 3), attempt)
    assert job.start_KD is attempt.prompt_KD and job.focus == (2,) and job.num_vectors == K and job.attempt == 1
    solver = Solver(tiny_llama)
    solver.submit(job)
    solver._admit()
    (slot,) = solver.active
    assert torch.equal(slot.prompt_KD, attempt.prompt_KD) and slot.step == 0
    assert position_weights_of([slot], torch.ones(1, 9)).tolist() == [[1, 1, FOCUS_WEIGHT, *[1] * 6]]


def test_an_exact_prompt_without_its_margin_has_no_position_to_weigh(tiny_llama):
    attempt = failed(tiny_llama, first_mismatch=9)
    assert corrected(attempt.job, attempt).focus == ()


def test_where_nothing_was_measured_it_begins_afresh(tiny_llama):
    attempt = replace(failed(tiny_llama), certificate=None)
    assert corrected(attempt.job, attempt) is attempt.job
