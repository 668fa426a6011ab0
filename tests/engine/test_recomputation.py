"""Passes that keep little: the same numbers, in a fraction of the memory, and only where they are asked for."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from engine.footprint import Footprint
from engine.frozen_lm import FrozenLM
from engine.recomputation import layers_of
from engine.solver import Solver
from tests.engine.jobs import job_of
from tests.engine.live_memory import LiveMemory
from tests.tiny import FAMILIES, VOCAB_SIZE, byte_tokenizer

SIZES = ((3, 25), (7, 2), (1, 11))
"""K and T of the texts."""

SPREAD = 1.2
"""What a run plans with for each byte of the estimate, on a GPU; more on a CPU (`orchestrator.sizing.sharing`)."""


def gradients(lm, prompts, targets):
    """Summed likelihood, and its gradient by every prompt."""
    nll = lm.score_targets(prompts, targets).nll.sum()
    return nll.detach(), torch.autograd.grad(nll, prompts)


def texts_of(lm, sizes=SIZES):
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randn(k, lm.hidden_size, generator=generator) * lm.embed_rms for k, _ in sizes]
    targets = [torch.randint(lm.vocab_size, (t,), generator=generator) for _, t in sizes]
    return [prompt_KD.requires_grad_() for prompt_KD in prompts], targets


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_that_keeps_little_gives_the_same_loss_and_gradients(family, is_packed, tiny_lm, monkeypatch):
    lm = tiny_lm(family)
    if not is_packed:
        monkeypatch.setattr(lm, "packs_up_to", 0)
    prompts, targets = texts_of(lm)
    kept_nll, kept = gradients(lm, prompts, targets)
    monkeypatch.setattr(lm, "keeps_up_to", 5)
    nll, computed_again = gradients(lm, prompts, targets)
    torch.testing.assert_close(nll, kept_nll, rtol=1e-6, atol=0)
    for ours_KD, theirs_KD in zip(computed_again, kept, strict=True):
        torch.testing.assert_close(ours_KD, theirs_KD, rtol=1e-6, atol=1e-6 * float(theirs_KD.abs().max()))
    assert layers_of(lm.body) and not any("forward" in vars(layer) for layer in layers_of(lm.body)), "as it was found"


@pytest.fixture(scope="module")
def deep_llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=64, num_hidden_layers=12, num_attention_heads=4, intermediate_size=192,
        max_position_embeddings=512, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    return FrozenLM(AutoModelForCausalLM.from_config(config), byte_tokenizer(), known_as="deep")


def peak_bytes_a_position(lm):
    """Of a step's pass and its gradient; what does not grow with the positions drops out."""
    peaks = []
    for length in (60, 260):
        prompts, targets = texts_of(lm, [(5, length)])
        with LiveMemory() as live:
            gradients(lm, prompts, targets)
        peaks.append(live.peak)
    return (peaks[1] - peaks[0]) / 200


def test_it_takes_a_fraction_of_the_memory_and_no_more_than_the_estimate(deep_llama, monkeypatch):
    footprint = Footprint.of_skeleton(deep_llama.model, 512)
    kept = peak_bytes_a_position(deep_llama)
    monkeypatch.setattr(deep_llama, "keeps_up_to", 0)
    computed_again = peak_bytes_a_position(deep_llama)
    assert computed_again < kept / 5
    assert kept <= SPREAD * footprint.training_bytes_a_position("float32")
    assert computed_again <= SPREAD * footprint.recomputed_bytes_a_position("float32")


def test_a_text_ends_in_the_same_place_either_way(tiny_llama, monkeypatch):
    (kept,) = Solver(tiny_llama).solve([job_of(tiny_llama, "verbatim")])
    monkeypatch.setattr(tiny_llama, "keeps_up_to", 1)
    (computed_again,) = Solver(tiny_llama).solve([job_of(tiny_llama, "verbatim")])
    assert computed_again.steps == kept.steps and computed_again.is_candidate
    torch.testing.assert_close(computed_again.prompt_KD, kept.prompt_KD, rtol=1e-5, atol=1e-5)
