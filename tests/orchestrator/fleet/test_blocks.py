"""Prompts beside the records that name them: what goes with a message, and what is left of it."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import ray

from engine.elsewhere import Elsewhere
from engine.held import held
from orchestrator.fleet.blocks import placed, present, taken_out, with_start
from orchestrator.verifiers.contract import Candidate
from tests.orchestrator.made_up import D, K, attempt, job

WIDE = 4096
"""Numbers in a vector of a large model."""


def test_attempts_go_without_their_prompts_and_know_their_shapes_and_places():
    made = [attempt(job(id)) for id in "abc"]
    without, block = taken_out(made)
    arrived = placed(pickle.loads(pickle.dumps(without)), "place")
    assert [each.prompt_KD for each in arrived] == [Elsewhere((K, D), index, "place") for index in range(3)]
    assert all(len(each.prompt_KD) == K and each.prompt_KD.num_bytes == 4 * K * D for each in arrived)
    assert [(a.job, a.certificate, a.steps) for a in arrived] == [(a.job, a.certificate, a.steps) for a in made]
    assert all(np.array_equal(prompt, each.prompt_KD.numpy()) for prompt, each in zip(block, made, strict=True))
    with pytest.raises(AssertionError, match="the prompt is elsewhere"):
        held(arrived[0].prompt_KD)


def test_what_travels_of_an_attempt_does_not_grow_with_its_prompt():
    made = attempt(job("a"))
    large = replace(made, prompt_KD=held(made.prompt_KD).repeat(1, WIDE))
    sizes = [len(pickle.dumps(taken_out([each])[0])) for each in (made, large)]
    assert abs(sizes[0] - sizes[1]) < 8


def test_prompts_that_are_here_are_left_as_they_are():
    here = Candidate("a", np.zeros((K, D), np.float32), (1, 2))
    assert present([here])[0].prompt_KD is here.prompt_KD and not ray.is_initialized()
    begun = replace(job("a"), start_KD=held(attempt(job("a")).prompt_KD))
    assert with_start(begun) is begun and with_start(job("b")).start_KD is None
