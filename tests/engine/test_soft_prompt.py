"""How a soft prompt starts."""

import pytest
import torch

from engine.soft_prompt import STARTS, mean_start, random_start, vocabulary_start

K = 61
ALL_STARTS = pytest.mark.parametrize("name", STARTS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@ALL_STARTS
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_start_is_float32_and_no_larger_than_the_embedding(name, family, tiny_lm):
    lm = tiny_lm(family)
    prompt_KD = STARTS[name](lm, K, seeded(1))
    assert prompt_KD.shape == (K, lm.hidden_size) and prompt_KD.dtype == torch.float32
    assert not prompt_KD.requires_grad
    assert 0.05 * lm.embed_rms < prompt_KD.square().mean().sqrt() < 1.1 * lm.embed_rms


@ALL_STARTS
def test_a_start_follows_its_random_stream_alone(name, tiny_llama):
    first, again, other = (STARTS[name](tiny_llama, K, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_vocabulary_start_takes_rows_as_the_model_reads_them(tiny_lm):
    lm = tiny_lm("gemma2")
    rows_VD = lm.embed(torch.arange(lm.vocab_size))
    is_row_KV = (vocabulary_start(lm, K, seeded(1))[:, None] == rows_VD).all(-1)
    assert is_row_KV.any(1).all()
    assert is_row_KV.any(0).sum() > K / 2


def test_the_random_start_has_the_size_of_the_embedding(tiny_lm):
    lm = tiny_lm("gemma2")
    prompt_KD = random_start(lm, K, seeded(1))
    assert prompt_KD.square().mean().sqrt().item() == pytest.approx(lm.embed_rms, rel=0.05)


def test_the_mean_start_lies_around_the_mean_and_its_vectors_differ(tiny_lm):
    lm = tiny_lm("gemma2")
    prompt_KD = mean_start(lm, K, seeded(1))
    mean_D = lm.embed(torch.arange(lm.vocab_size)).mean(0)
    torch.testing.assert_close(prompt_KD.mean(0), mean_D, rtol=0, atol=0.1 * lm.embed_rms)
    assert (prompt_KD.std(0) > 0).all()


def test_writing_into_a_start_leaves_the_model_alone(tiny_llama):
    before_VD = tiny_llama.embedding.weight.clone()
    for start in STARTS.values():
        start(tiny_llama, K, seeded(1)).zero_()
    assert torch.equal(tiny_llama.embedding.weight, before_VD)
