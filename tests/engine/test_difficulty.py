"""How hard a text looks: lengths, and nats against a slow sum over the model's own logits."""

import math

import pytest
import torch

from engine.difficulty import BATCH, DIFFICULTIES
from engine.target import make_target

TEXTS = ("a", "ab", "verbatim", "a b c", "x" * 13)


@pytest.fixture
def targets(tiny_llama):
    return [make_target(tiny_llama.token_rule, text, text, end_of_text=False) for text in TEXTS]


def test_length_counts_tokens(tiny_llama, targets):
    assert DIFFICULTIES["length"](tiny_llama, targets) == [1, 2, 8, 5, 13]


@torch.no_grad()
def test_surprisal_is_the_sum_of_what_the_model_needs_for_each_token(tiny_llama, targets):
    said = DIFFICULTIES["surprisal"](tiny_llama, targets)
    for nats, target in zip(said, targets, strict=True):
        ids = torch.tensor(target.token_ids)
        log_p_TV = tiny_llama.model(input_ids=ids[None]).logits[0].log_softmax(-1)
        slow = math.log(tiny_llama.vocab_size) - sum(float(log_p_TV[t, ids[t + 1]]) for t in range(len(ids) - 1))
        assert nats == pytest.approx(slow, rel=1e-5)


def test_surprisal_does_not_depend_on_the_batch(tiny_llama, targets):
    many = [targets[number % len(targets)] for number in range(BATCH + 7)]
    alone = DIFFICULTIES["surprisal"](tiny_llama, targets)
    for number, nats in enumerate(DIFFICULTIES["surprisal"](tiny_llama, many)):
        assert nats == pytest.approx(alone[number % len(targets)], rel=1e-5)
