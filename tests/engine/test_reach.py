"""Bounds on margins hold, and a text that a model cannot say surely is done with what it can have."""

import math
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.certificate import certify
from engine.frozen_lm import FrozenLM
from engine.head import Head
from engine.reach import REACHED_FRAC, Reach
from engine.slots import Attempt
from engine.solver import Solver
from tests.engine.jobs import job_of
from tests.tiny import save_tiny

NUM_LIKE = 2
APART = 1e-4


@pytest.mark.parametrize("scale, softcap, with_bias", [(1.0, None, False), (0.25, None, True), (1.0, 3.0, False)])
def test_no_hidden_state_gives_a_larger_margin_and_without_bias_one_gives_nearly_that(scale, softcap, with_bias):
    draw = torch.Generator().manual_seed(1)
    weight_VD, hidden_ND = torch.randn(40, 6, generator=draw), torch.randn(500, 6, generator=draw)
    weight_VD[7] = weight_VD[3] + APART
    head = Head(weight_VD, torch.randn(40, generator=draw) if with_bias else None, scale=scale, softcap=softcap)
    reach = Reach(head, longest=5.0)
    for token in range(40):
        along_VD = torch.cat([hidden_ND, weight_VD[token] - weight_VD])
        longest_ND = 5 * torch.nn.functional.normalize(along_VD, dim=-1)
        margin_N = head.score(longest_ND, torch.full((len(longest_ND),), token)).margin
        assert margin_N.max() <= reach.of([token]) + 1e-4
    if not with_bias:
        assert reach.of([3]) == pytest.approx(5 * APART * math.sqrt(6) * scale, rel=0.01) == reach.of([3, 9])


@pytest.fixture(scope="module")
def unsure(tmp_path_factory) -> FrozenLM:
    """A model whose end-of-text token has two like it, as tokens are that no training text held."""
    folder = save_tiny("llama", tmp_path_factory.mktemp("unsure") / "model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows_VD = model.lm_head.weight.data
    draw = torch.Generator().manual_seed(0)
    like_ND = rows_VD[0] + APART * torch.randn(NUM_LIKE, rows_VD.shape[1], generator=draw)
    rows_VD[-NUM_LIKE:] = like_ND
    return FrozenLM(model, AutoTokenizer.from_pretrained(folder))


def test_a_text_whose_end_has_its_like_is_done_with_what_margin_can_be_had(unsure):
    ending = job_of(unsure, "Call me.", "max_steps=2")
    bare = replace(ending, target=replace(ending.target, token_ids=ending.target.token_ids[:-1]))
    hardly, surely = (Solver(unsure).solve([asked])[0].job for asked in (ending, bare))
    assert surely.reach > 1 and surely.wanted == 0.5
    assert 0 < hardly.reach == unsure.reach.of([unsure.token_rule.end_id]) < 0.1
    assert hardly.wanted == pytest.approx(REACHED_FRAC * hardly.reach)
    enough, too_little = (
        Attempt(hardly, torch.zeros(5, 8), certify(torch.tensor([1.0, share * hardly.reach])), 1, 1, 0.0)
        for share in (0.06, 0.04)
    )
    assert enough.has_margin and too_little.is_candidate and not too_little.has_margin


def test_after_a_rejection_no_less_is_taken(unsure):
    assert job_of(unsure, "Call me.", reach=0.01, is_objected=True).wanted == 0.5
