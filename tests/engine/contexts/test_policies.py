"""Context policies: one contract for all, and what holds for those that are soft."""

import math

import pytest
import torch

from engine.contexts import POLICIES
from engine.recipe.sections import ContextRecipe
from tests.engine.contexts.texts import PLAIN, T, draw_texts
from tests.engine.contexts.variants import (
    ALL_VARIANTS,
    GRADIENTS,
    SOFT,
    SOFT_VARIANTS,
    STATES,
    VARIANTS,
    leaves_of,
    settings,
)
from tests.engine.slow import assert_near, projected_gradients, seeded


# One contract for every policy.
def test_every_policy_a_recipe_takes_is_implemented_and_tested():
    assert set(ContextRecipe.model_fields["name"].annotation.__args__) == set(POLICIES)
    assert {policy for policy, _ in VARIANTS.values()} == set(POLICIES)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@ALL_VARIANTS
def test_a_policy_gives_one_finite_state_a_position_and_a_finite_gradient(variant, family, tiny_lm):
    lm = tiny_lm(family)
    name, chosen = VARIANTS[variant]
    texts = draw_texts(lm, chosen, is_learned=name in SOFT)
    states_ND = POLICIES[name].read(lm, texts)
    assert states_ND.shape == (sum(T), lm.hidden_size) and states_ND.isfinite().all()
    for grad_KD in projected_gradients(states_ND, texts.prompts):
        assert grad_KD.isfinite().all() and (grad_KD.abs().sum(1) > 0).all()
    assert all(grad.isfinite().all() for grad in projected_gradients(POLICIES[name].read(lm, texts), leaves_of(texts)))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@ALL_VARIANTS
def test_a_text_reads_the_same_alone_and_in_company(variant, family, float64_lm):
    lm = float64_lm(family)
    name, chosen = VARIANTS[variant]
    texts = draw_texts(lm, chosen)
    states_ND = POLICIES[name].read(lm, texts)
    grads = projected_gradients(states_ND, texts.prompts)
    weights = torch.randn(states_ND.shape, generator=seeded(3)).to(states_ND.dtype).split(T)
    for b, (states_TD, grad_KD, weight_TD) in enumerate(zip(states_ND.split(T), grads, weights, strict=True)):
        alone = draw_texts(lm, chosen, rows=(b,))
        alone_TD = POLICIES[name].read(lm, alone)
        assert_near(alone_TD, states_TD, STATES)
        (alone_KD,) = torch.autograd.grad((alone_TD * weight_TD).sum(), alone.prompts)
        assert_near(alone_KD, grad_KD, GRADIENTS)
        # What a text draws later must not depend on its company either.
        assert torch.equal(alone.generators[0].get_state(), texts.generators[b].get_state())


@ALL_VARIANTS
def test_a_policy_follows_the_texts_own_streams_and_never_touches_the_global_one(variant, tiny_llama):
    name, chosen = VARIANTS[variant]
    states = []
    with torch.random.fork_rng():
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.random.get_rng_state()
            texts = draw_texts(tiny_llama, chosen)
            states.append(POLICIES[name].read(tiny_llama, texts))
            projected_gradients(states[-1], texts.prompts)
            assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("name", "forcing"),
    [
        ("mixer", {}),
        ("scheduled_sampling", {"eps": 1.0}),
        ("scheduled_sampling", {"eps": 1.0, "samples_own": True}),
        ("embedding_mix", {"eps": 1.0}),
        ("two_pass", {"eps": 1.0, "num_passes": 2}),
        ("soft_decoding", {"guidance_alpha": 1.0}),
        ("soft_decoding", {"guidance_alpha": 1.0, "clamps": True}),
        ("gumbel_softmax", {"guidance_alpha": 1.0}),
        ("gumbel_softmax", {"guidance_alpha": 1.0, "clamps": True}),
        ("gumbel_softmax", {"guidance_alpha": 1.0, "straight_through": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_a_policy_that_is_forced_throughout_is_teacher_forcing(name, forcing, family, float64_lm):
    lm = float64_lm(family)
    texts = draw_texts(lm, [PLAIN._replace(**forcing)] * 3)
    forced = draw_texts(lm, [PLAIN] * 3)
    states_ND, forced_ND = POLICIES[name].read(lm, texts), POLICIES["teacher_forcing"].read(lm, forced)
    assert_near(states_ND, forced_ND, STATES)
    grads = zip(
        projected_gradients(states_ND, texts.prompts), projected_gradients(forced_ND, forced.prompts), strict=True
    )
    for grad_KD, forced_KD in grads:
        assert_near(grad_KD, forced_KD, GRADIENTS)


def test_teacher_forcing_is_what_the_model_is_measured_on(tiny_llama):
    texts = draw_texts(tiny_llama, [PLAIN] * 3, is_noisy=False)
    states_ND = POLICIES["teacher_forcing"].read(tiny_llama, texts)
    scores_N = tiny_llama.head.score(states_ND, torch.cat(texts.targets))
    assert torch.equal(scores_N.margin, tiny_llama.score_targets(texts.prompts, texts.targets).margin)


@ALL_VARIANTS
def test_read_noise_of_zero_is_none_and_other_noise_is_read(variant, tiny_llama):
    name, chosen = VARIANTS[variant]
    states = []
    for factor in (None, 0.0, 1.0):
        texts = draw_texts(tiny_llama, chosen, is_noisy=False)
        if factor is not None:
            for b, num_tokens in enumerate(T):
                noise_TD = torch.randn(num_tokens, tiny_llama.hidden_size, generator=seeded(b)) * factor
                texts.read_noise[b] = noise_TD * tiny_llama.embed_rms
        states.append(POLICIES[name].read(tiny_llama, texts))
    without_ND, zero_ND, noisy_ND = states
    torch.testing.assert_close(zero_ND, without_ND, rtol=0, atol=1e-5)
    # The first token of a text is predicted by its prompt alone; every later one meets the noise.
    is_first_N = torch.cat([torch.arange(num_tokens) for num_tokens in T]) == 0
    is_same_N = (noisy_ND - without_ND).abs().amax(1) < 1e-4
    assert torch.equal(is_same_N, is_first_N)


# Temperatures of those that read mixtures.


@pytest.mark.parametrize("variant", SOFT_VARIANTS)
def test_a_learned_temperature_gets_a_gradient(variant, tiny_llama):
    name, chosen = VARIANTS[variant]
    texts = draw_texts(tiny_llama, chosen, is_learned=True)
    first, second, only_token = projected_gradients(POLICIES[name].read(tiny_llama, texts), texts.log_temperatures)
    assert first.isfinite().all() and second.isfinite().all()
    assert (first != 0).all() and (second != 0).all()
    assert only_token == 0, "a single token is predicted by the prompt alone, and nothing soft is read"


@pytest.mark.parametrize("name", SOFT)
def test_a_learned_temperature_is_a_factor_on_the_given_one(name, tiny_llama):
    texts = draw_texts(tiny_llama, [PLAIN] * 3)
    for b, factor in enumerate((0.5, 2.0, 1.0)):
        texts.settings[b] = PLAIN._replace(temperature=PLAIN.temperature / factor)
        texts.log_temperatures[b] = torch.tensor([math.log(factor)])
    plain = draw_texts(tiny_llama, [PLAIN] * 3)
    assert_near(POLICIES[name].read(tiny_llama, texts), POLICIES[name].read(tiny_llama, plain), 1e-4)


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_extreme_temperatures_stay_finite(name, temperature, tiny_llama):
    chosen = settings(temperature=(temperature,) * 3, top_k=(0, 5, 0), straight_through=(False, True, False))
    texts = draw_texts(tiny_llama, chosen, is_learned=True)
    states_ND = POLICIES[name].read(tiny_llama, texts)
    assert states_ND.isfinite().all()
    assert all(grad.isfinite().all() for grad in projected_gradients(states_ND, leaves_of(texts)))
