"""Context policies: one contract for all, and each against its formula with everything read again for every token."""

import math

import pytest
import torch
from torch import Tensor

from engine.contexts import POLICIES, Setting, Texts
from engine.contexts.chosen import free_running, two_pass
from engine.decoding import greedy
from engine.frozen_lm import FrozenLM
from engine.recipe.sections import ContextRecipe
from tests.engine.contexts.texts import PLAIN, T, draw_texts
from tests.engine.slow import assert_near, projected_gradients, seeded, slow_walk

STATES, GRADIENTS = 1e-3, 1e-2
"""Tolerances, shares of the largest entry: logits and mixtures are float32, and rounding grows with every soft step."""


def settings(**columns) -> list[Setting]:
    """Three texts' settings, which differ in the columns given."""
    return [PLAIN._replace(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


EPS, ALPHA = (0.3, 0.6, 0.5), (0.3, 0.5, 0.2)
MIXES, CLAMPS = (False, True, False), (True, False, True)
VARIANTS: dict[str, tuple[str, list[Setting]]] = {
    "teacher forcing": ("teacher_forcing", [PLAIN] * 3),
    "mixer": ("mixer", [PLAIN] * 3),
    "scheduled sampling": ("scheduled_sampling", settings(eps=EPS)),
    "scheduled sampling, own tokens drawn": (
        "scheduled_sampling",
        settings(eps=EPS, samples_own=(True, False, True)),
    ),
    "embedding mix": ("embedding_mix", settings(eps=EPS)),
    "embedding mix, own tokens drawn": ("embedding_mix", settings(eps=EPS, samples_own=(False, True, True))),
    "free running": ("free_running", [PLAIN] * 3),
    "free running, own tokens drawn": ("free_running", settings(samples_own=(True, False, True))),
    "two passes": ("two_pass", settings(eps=EPS)),
    "two passes and more": ("two_pass", settings(eps=EPS, num_passes=(2, 1, 3))),
    "soft decoding": ("soft_decoding", settings(temperature=(1.5, 3.0, 1.0))),
    "soft decoding, top-k": ("soft_decoding", settings(top_k=(7, 0, 3), temperature=(3.0, 2.0, 1.0))),
    "soft decoding, min-p": ("soft_decoding", settings(min_p=(0.05, 0.2, 0.0))),
    "soft decoding, both": ("soft_decoding", settings(top_k=(0, 13, 1), min_p=(0.1, 0.01, 0.5))),
    "soft decoding, guided": ("soft_decoding", settings(guidance_alpha=ALPHA, clamps=MIXES)),
    "soft decoding, guided otherwise": ("soft_decoding", settings(guidance_alpha=ALPHA, clamps=CLAMPS)),
    "gumbel": ("gumbel_softmax", settings(temperature=(1.5, 3.0, 1.0))),
    "gumbel, straight through": ("gumbel_softmax", settings(straight_through=(True, False, True))),
    "gumbel, straight through otherwise": ("gumbel_softmax", settings(straight_through=(False, True, False))),
    "gumbel, guided": ("gumbel_softmax", settings(guidance_alpha=ALPHA, clamps=CLAMPS)),
}
ALL_VARIANTS = pytest.mark.parametrize("variant", VARIANTS)
SOFT = [name for name, policy in POLICIES.items() if policy.is_soft]
SOFT_VARIANTS = [variant for variant, (policy, _) in VARIANTS.items() if policy in SOFT]


def leaves_of(texts: Texts) -> list[Tensor]:
    return [*texts.prompts, *(log for log in texts.log_temperatures if log is not None)]


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


# Each policy against its formula, one text at a time, without a cache.


def own_token(lm: FrozenLM, hidden_D: Tensor, setting: Setting, uniform: float) -> Tensor:
    """The token a hard policy takes for the model's own: the likeliest, or the drawn one by inversion."""
    p_V = lm.head.logits(hidden_D[None])[0].double().softmax(0)
    if not setting.samples_own:
        return p_V.argmax()
    return (p_V.cumsum(0) <= uniform).sum()


def slow_guided(p_V: Tensor, target: int, setting: Setting) -> Tensor:
    is_target_V = torch.arange(len(p_V)) == target
    alpha = setting.guidance_alpha
    if not setting.clamps:
        return alpha * is_target_V + (1 - alpha) * p_V
    if p_V[target] >= alpha:
        return p_V
    return torch.where(is_target_V, alpha, p_V * (1 - alpha) / p_V[~is_target_V].sum())


def slow_soft(lm: FrozenLM, logits_V: Tensor, setting: Setting, temperature: Tensor) -> Tensor:
    p_V = logits_V.detach().softmax(0)
    kept_V = p_V >= setting.min_p * p_V.max()
    if setting.top_k:
        num_above_V = (logits_V[:, None] < logits_V[None]).sum(1)
        kept_V &= num_above_V < setting.top_k
    weight_V = torch.where(kept_V, ((logits_V - logits_V.max()) / temperature).exp(), 0.0)
    return weight_V / weight_V.sum()


def slow_gumbel(lm: FrozenLM, logits_V: Tensor, setting: Setting, temperature: Tensor, seed: int) -> Tensor:
    gumbel_V = -(-torch.rand(len(logits_V), generator=seeded(seed)).double().log()).log()
    soft_V = ((logits_V.log_softmax(0) + gumbel_V) / temperature).softmax(0)
    if not setting.straight_through:
        return soft_V
    hard_V = torch.eye(len(soft_V), dtype=soft_V.dtype)[soft_V.argmax()]
    return hard_V + soft_V - soft_V.detach()


def slow_two_pass(lm, prompt_KD, truth_TD, setting, generator) -> Tensor:
    context_TD = truth_TD
    for _ in range(setting.num_passes):
        context_TD, read_TD = truth_TD.clone(), context_TD
        states_TD, _ = slow_walk(lm, prompt_KD, len(truth_TD), lambda t, hidden_D, read_TD=read_TD: read_TD[t])
        for t, is_truth in enumerate((torch.rand(len(truth_TD), generator=generator) < setting.eps).tolist()):
            if not is_truth:
                context_TD[t] = lm.embed(lm.head.logits(states_TD[t : t + 1]).argmax())
    return context_TD


def slow_policy(lm: FrozenLM, name: str, texts: Texts, b: int) -> tuple[Tensor, list[Tensor]]:
    """States of text b by the formula of a policy, and the contexts that were read, both with their gradients."""
    prompt_KD, target_T, setting, generator = (
        column[b] for column in (texts.prompts, texts.targets, texts.settings, texts.generators)
    )
    num_tokens, log_temperature = len(target_T), texts.log_temperatures[b]
    truth_TD = lm.embed(target_T)
    every_VD = lm.embed(torch.arange(lm.vocab_size))
    temperature = torch.tensor(setting.temperature, dtype=torch.float64)
    if log_temperature is not None:
        temperature = temperature * log_temperature[0].exp()
    # Drawn in the order in which the policies draw: that order is part of what makes a run repeatable.
    is_truth_T, uniform_T, seed_T = torch.ones(num_tokens), torch.zeros(num_tokens), torch.zeros(num_tokens)
    if name == "scheduled_sampling":
        is_truth_T = torch.rand(num_tokens, generator=generator) < setting.eps
    if name in ("scheduled_sampling", "embedding_mix", "free_running") and setting.samples_own:
        uniform_T = torch.rand(num_tokens, generator=generator)
    if name in SOFT:
        seed_T = torch.randint(2**62, (num_tokens,), generator=generator)
    if name == "two_pass":
        truth_TD = slow_two_pass(lm, prompt_KD, truth_TD, setting, generator)

    def choose(t: int, hidden_D: Tensor) -> Tensor:
        if name in ("teacher_forcing", "mixer", "two_pass"):
            return truth_TD[t]
        if name in SOFT:
            logits_V = lm.head.logits(hidden_D[None])[0].double()
            if name == "soft_decoding":
                p_V = slow_soft(lm, logits_V, setting, temperature)
            else:
                p_V = slow_gumbel(lm, logits_V, setting, temperature, int(seed_T[t]))
            return slow_guided(p_V, int(target_T[t]), setting) @ every_VD
        own_D = lm.embed(own_token(lm, hidden_D, setting, uniform_T[t].item()))
        if name == "embedding_mix":
            return setting.eps * truth_TD[t] + (1 - setting.eps) * own_D
        return truth_TD[t] if name == "scheduled_sampling" and is_truth_T[t] else own_D

    noise_TD = texts.read_noise[b]
    return slow_walk(
        lm, prompt_KD, num_tokens, lambda t, h_D: choose(t, h_D) + (0 if noise_TD is None else noise_TD[t])
    )


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@ALL_VARIANTS
def test_a_policy_is_its_formula_with_everything_read_again(variant, family, float64_lm):
    lm = float64_lm(family)
    name, chosen = VARIANTS[variant]
    texts, again = (draw_texts(lm, chosen, is_learned=name in SOFT) for _ in range(2))
    states_ND = POLICIES[name].read(lm, texts)
    slow_ND = torch.cat([slow_policy(lm, name, again, b)[0] for b in range(len(T))])
    assert_near(states_ND, slow_ND, STATES)
    grads = projected_gradients(states_ND, leaves_of(texts))
    slow_grads = projected_gradients(slow_ND, leaves_of(again))
    for grad, slow_grad in zip(grads, slow_grads, strict=True):
        assert_near(grad, slow_grad, GRADIENTS)


def test_the_variants_read_something_else_than_the_ground_truth(float64_lm):
    lm = float64_lm("llama")
    truth = draw_texts(lm, [PLAIN] * 3)
    truth_TD = POLICIES["teacher_forcing"].read(lm, truth)[: T[0]]
    for variant, (name, chosen) in VARIANTS.items():
        states_TD = POLICIES[name].read(lm, draw_texts(lm, chosen))[: T[0]]
        is_same = torch.allclose(states_TD, truth_TD, atol=1e-3)
        assert is_same == (name in ("teacher_forcing", "mixer")), variant


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_free_running_says_what_the_greedy_decoder_says(family, tiny_lm):
    lm = tiny_lm(family)
    texts = draw_texts(lm, [PLAIN] * 3, is_noisy=False)
    tokens_N = lm.head.logits(free_running(lm, texts)).argmax(-1)
    for prompt_KD, tokens_T in zip(texts.prompts, tokens_N.split(T), strict=True):
        (said,) = greedy(lm, prompt_KD[None], max_tokens=len(tokens_T))
        assert tokens_T[: len(said)].tolist() == said


def test_with_a_pass_for_every_token_two_pass_arrives_at_free_running(float64_lm):
    lm = float64_lm("llama")
    # The first token is right from the first pass on, and every pass mends the token after the last right one.
    passes = PLAIN._replace(eps=0.0, num_passes=max(T) - 1)
    states_ND = two_pass(lm, draw_texts(lm, [passes] * 3, is_noisy=False))
    assert_near(states_ND, free_running(lm, draw_texts(lm, [passes] * 3, is_noisy=False)), STATES)


# Where gradients go.


@ALL_VARIANTS
def test_the_last_token_reaches_the_prompt_through_soft_contexts_and_through_no_choice(variant, float64_lm):
    lm = float64_lm("llama")
    name, chosen = VARIANTS[variant]
    texts, again = (draw_texts(lm, chosen, rows=(0,)) for _ in range(2))
    weight_D = torch.randn(lm.hidden_size, generator=seeded(3)).to(lm.dtype)
    (whole_KD,) = torch.autograd.grad(POLICIES[name].read(lm, texts)[-1] @ weight_D, texts.prompts)
    # The same contexts as constants: what is left is the way over the prompt itself. The difference is the way over
    # the contexts.
    _, reads = slow_policy(lm, name, again, 0)
    contexts_TD = torch.stack([*(read_D.detach() for read_D in reads), torch.zeros_like(reads[0])])
    (direct_KD,) = torch.autograd.grad(lm.read(texts.prompts, [contexts_TD])[-1] @ weight_D, texts.prompts)
    if name in SOFT:
        assert ((whole_KD - direct_KD).norm(dim=1) > 0.01 * direct_KD.norm(dim=1)).all()
    else:
        assert_near(whole_KD, direct_KD, GRADIENTS)


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


def test_cold_soft_decoding_is_free_running(float64_lm):
    lm = float64_lm("llama")
    cold = draw_texts(lm, [PLAIN._replace(temperature=1e-4)] * 3)
    assert_near(POLICIES["soft_decoding"].read(lm, cold), free_running(lm, draw_texts(lm, [PLAIN] * 3)), STATES)
