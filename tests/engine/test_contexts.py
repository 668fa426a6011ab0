"""Context policies: one contract for all, and each against its formula with everything read again for every token."""

import math

import pytest
import torch
from torch import Tensor

from engine.contexts import (
    POLICIES,
    SOFT,
    Setting,
    Texts,
    free_running,
    guide,
    gumbel_noise,
    likely,
    num_given,
    scheduled_sampling,
    setting_at,
    two_pass,
)
from engine.decoding import greedy
from engine.decoding.trajectory import sample
from engine.frozen_lm import FrozenLM
from engine.recipe import load_recipe
from engine.recipe.sections import ContextRecipe
from tests.engine.slow import assert_near, draw_prompt, projected_gradients, seeded, slow_walk

K, T = (2, 11, 3), (7, 5, 1)
"""Of the B = 3 texts of a pass; N = 13 positions."""

STATES, GRADIENTS = 1e-3, 1e-2
"""Tolerances, shares of the largest entry: logits and mixtures are float32, and rounding grows with every soft step."""

PLAIN = Setting(
    eps=0.5, temperature=2.0, guidance_alpha=0.0, forced_frac=1.0, num_passes=1, samples_own=False, top_k=0, min_p=0.0,
    clamps=False, straight_through=False,
)  # fmt: skip


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
SOFT_VARIANTS = [variant for variant, (policy, _) in VARIANTS.items() if policy in SOFT]


def draw_texts(lm, chosen: list[Setting], rows=(0, 1, 2), *, is_learned=False, is_noisy=True) -> Texts:
    """Texts that depend on their own number alone, whatever stands beside them; noise is on every other one."""
    targets = [torch.randint(lm.vocab_size, (T[b],), generator=seeded(30 + b)) for b in rows]
    noises = [torch.randn(T[b], lm.hidden_size, generator=seeded(50 + b)) * 0.2 * lm.embed_rms for b in rows]
    return Texts(
        prompts=[draw_prompt(lm, K[b], 10 + b) for b in rows],
        targets=targets,
        settings=[chosen[b] for b in rows],
        generators=[seeded(70 + b) for b in rows],
        read_noise=[noise_TD if is_noisy and b % 2 else None for b, noise_TD in zip(rows, noises, strict=True)],
        log_temperatures=[torch.tensor([0.2 * (b + 1)], requires_grad=True) if is_learned else None for b in rows],
    )


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
    states_ND = POLICIES[name](lm, texts)
    assert states_ND.shape == (sum(T), lm.hidden_size) and states_ND.isfinite().all()
    for grad_KD in projected_gradients(states_ND, texts.prompts):
        assert grad_KD.isfinite().all() and (grad_KD.abs().sum(1) > 0).all()
    assert all(grad.isfinite().all() for grad in projected_gradients(POLICIES[name](lm, texts), leaves_of(texts)))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@ALL_VARIANTS
def test_a_text_reads_the_same_alone_and_in_company(variant, family, float64_lm):
    lm = float64_lm(family)
    name, chosen = VARIANTS[variant]
    texts = draw_texts(lm, chosen)
    states_ND = POLICIES[name](lm, texts)
    grads = projected_gradients(states_ND, texts.prompts)
    weights = torch.randn(states_ND.shape, generator=seeded(3)).to(states_ND.dtype).split(T)
    for b, (states_TD, grad_KD, weight_TD) in enumerate(zip(states_ND.split(T), grads, weights, strict=True)):
        alone = draw_texts(lm, chosen, rows=(b,))
        alone_TD = POLICIES[name](lm, alone)
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
            states.append(POLICIES[name](tiny_llama, texts))
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
    states_ND, forced_ND = POLICIES[name](lm, texts), POLICIES["teacher_forcing"](lm, forced)
    assert_near(states_ND, forced_ND, STATES)
    grads = zip(
        projected_gradients(states_ND, texts.prompts), projected_gradients(forced_ND, forced.prompts), strict=True
    )
    for grad_KD, forced_KD in grads:
        assert_near(grad_KD, forced_KD, GRADIENTS)


def test_teacher_forcing_is_what_the_model_is_measured_on(tiny_llama):
    texts = draw_texts(tiny_llama, [PLAIN] * 3, is_noisy=False)
    states_ND = POLICIES["teacher_forcing"](tiny_llama, texts)
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
        states.append(POLICIES[name](tiny_llama, texts))
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
    states_ND = POLICIES[name](lm, texts)
    slow_ND = torch.cat([slow_policy(lm, name, again, b)[0] for b in range(len(T))])
    assert_near(states_ND, slow_ND, STATES)
    grads = projected_gradients(states_ND, leaves_of(texts))
    slow_grads = projected_gradients(slow_ND, leaves_of(again))
    for grad, slow_grad in zip(grads, slow_grads, strict=True):
        assert_near(grad, slow_grad, GRADIENTS)


def test_the_variants_read_something_else_than_the_ground_truth(float64_lm):
    lm = float64_lm("llama")
    truth = draw_texts(lm, [PLAIN] * 3)
    truth_TD = POLICIES["teacher_forcing"](lm, truth)[: T[0]]
    for variant, (name, chosen) in VARIANTS.items():
        states_TD = POLICIES[name](lm, draw_texts(lm, chosen))[: T[0]]
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
    (whole_KD,) = torch.autograd.grad(POLICIES[name](lm, texts)[-1] @ weight_D, texts.prompts)
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
    first, second, only_token = projected_gradients(POLICIES[name](tiny_llama, texts), texts.log_temperatures)
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
    assert_near(POLICIES[name](tiny_llama, texts), POLICIES[name](tiny_llama, plain), 1e-4)


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_extreme_temperatures_stay_finite(name, temperature, tiny_llama):
    chosen = settings(temperature=(temperature,) * 3, top_k=(0, 5, 0), straight_through=(False, True, False))
    texts = draw_texts(tiny_llama, chosen, is_learned=True)
    states_ND = POLICIES[name](tiny_llama, texts)
    assert states_ND.isfinite().all()
    assert all(grad.isfinite().all() for grad in projected_gradients(states_ND, leaves_of(texts)))


def test_cold_soft_decoding_is_free_running(float64_lm):
    lm = float64_lm("llama")
    cold = draw_texts(lm, [PLAIN._replace(temperature=1e-4)] * 3)
    assert_near(POLICIES["soft_decoding"](lm, cold), free_running(lm, draw_texts(lm, [PLAIN] * 3)), STATES)


# Probabilities.

V = 13


def test_likely_keeps_the_top_k_and_what_is_near_the_top():
    logits_BV = torch.log(torch.tensor([[0.4, 0.1, 0.3, 0.2]])).repeat(5, 1)
    top_k_B1 = torch.tensor([0.0, 2.0, 0.0, 3.0, 99.0])[:, None]
    min_p_B1 = torch.tensor([0.0, 0.0, 0.6, 0.6, 0.3])[:, None]
    assert likely(logits_BV, top_k_B1, min_p_B1).tolist() == [
        [True, True, True, True],
        [True, False, True, False],
        [True, False, True, False],
        [True, False, True, False],
        [True, False, True, True],
    ]


def test_likely_keeps_ties_at_the_last_rank_and_always_the_top():
    logits_BV = torch.tensor([[1.0, 3.0, 2.0, 2.0], [5.0, 5.0, 5.0, 5.0], [0.0, 900.0, -900.0, 1.0]])
    top_k_B1, min_p_B1 = torch.tensor([[2.0], [1.0], [1.0]]), torch.tensor([[0.0], [0.99], [0.99]])
    assert likely(logits_BV, top_k_B1, min_p_B1).tolist() == [
        [False, True, True, True],
        [True, True, True, True],
        [False, True, False, False],
    ]


@pytest.mark.parametrize("clamps", [False, True], ids=["mix", "clamp"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_guided_probabilities_sum_to_one_and_hold_at_least_alpha_of_the_target(alpha, clamps):
    p_BV = (torch.randn(101, V, generator=seeded(5)) * 3).softmax(-1)
    target_B = torch.randint(V, (101,), generator=seeded(7))
    alpha_B1, clamps_B1 = torch.full((101, 1), alpha), torch.full((101, 1), clamps)
    guided_BV = guide(p_BV, target_B, alpha_B1, clamps_B1)
    torch.testing.assert_close(guided_BV.sum(1), torch.ones(101))
    target_p_B, before_B = (x_BV.gather(1, target_B[:, None]).squeeze(1) for x_BV in (guided_BV, p_BV))
    assert (guided_BV >= 0).all() and (target_p_B >= alpha - 1e-6).all()
    led_B = before_B.clamp_min(alpha) if clamps else alpha + (1 - alpha) * before_B
    torch.testing.assert_close(target_p_B, led_B)
    if alpha == 0:
        assert torch.equal(guided_BV, p_BV)
    # All the others keep their shares of what is left.
    shrink_B1 = ((1 - target_p_B) / (1 - before_B))[:, None]
    is_other_BV = torch.arange(V) != target_B[:, None]
    torch.testing.assert_close((p_BV * shrink_B1)[is_other_BV], guided_BV[is_other_BV], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clamps", [False, True], ids=["mix", "clamp"])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_guidance_has_a_finite_gradient_where_the_model_is_certain(alpha, clamps):
    logits_BV = torch.zeros(2, V)
    logits_BV[:, 5] = 300.0  # token 5 has probability 1 and the others 0
    logits_BV.requires_grad_()
    p_BV = guide(logits_BV.softmax(-1), torch.tensor([5, 3]), torch.full((2, 1), alpha), torch.full((2, 1), clamps))
    assert p_BV.isfinite().all()
    (grad_BV,) = torch.autograd.grad((p_BV * torch.arange(V)).sum(), logits_BV)
    assert grad_BV.isfinite().all()


# Frequencies of what is drawn.


def assert_frequencies(token_n: Tensor, p_V: Tensor, *, least: float = 7.0) -> None:
    """Counts within four standard errors, for the tokens expected `least` times or more."""
    n = len(token_n)
    share_V = torch.bincount(token_n, minlength=len(p_V)) / n
    is_seen_V = p_V * n >= least
    error_V = (p_V * (1 - p_V) / n).sqrt()
    assert is_seen_V.sum() > 3 and p_V.max() < 0.9, "a peaked distribution would show nothing"
    assert ((share_V - p_V).abs() <= 4 * error_V)[is_seen_V].all()
    rare = p_V[~is_seen_V].sum()
    assert share_V[~is_seen_V].sum() <= rare + 4 * (rare / n).sqrt()


def test_the_argmax_under_gumbel_noise_has_the_softmaxs_frequencies():
    logits_V = torch.randn(V, generator=seeded(11)) * 1.5
    noisy_nV = logits_V.log_softmax(0) + torch.stack([gumbel_noise(seed, V) for seed in range(10007)])
    assert noisy_nV.isfinite().all()
    assert_frequencies(noisy_nV.argmax(1), logits_V.softmax(0))


def test_gumbel_noise_is_drawn_again_from_its_seed():
    first_V, again_V, other_V = (gumbel_noise(seed, V) for seed in (1, 1, 2))
    assert torch.equal(first_V, again_V) and not torch.equal(first_V, other_V)
    # Euler's constant and pi / sqrt(6).
    noise_n = gumbel_noise(3, 100_003)
    assert noise_n.mean().item() == pytest.approx(0.5772, abs=4 * 1.2825 / 100_003**0.5)
    assert noise_n.std().item() == pytest.approx(1.2825, rel=0.02)


@pytest.mark.parametrize(
    ("name", "drawing"),
    [
        ("scheduled_sampling", {"eps": 0.0, "samples_own": True}),
        ("embedding_mix", {"eps": 0.0, "samples_own": True}),
        ("free_running", {"samples_own": True}),
        ("gumbel_softmax", {"straight_through": True}),
        ("sample", {}),
    ],
)
def test_drawn_tokens_have_the_models_own_frequencies(name, drawing, tiny_llama):
    lm, n = tiny_llama, 2003
    prompt_KD = draw_prompt(lm, 1, 4).detach()
    target_T = torch.tensor([2, 3])
    generators = [seeded(seed) for seed in range(n)]
    p_V = lm.head.logits(lm.read([prompt_KD], [lm.embed(target_T)])[:1])[0].softmax(0)
    with torch.no_grad():
        if name == "sample":
            uniform_nT = torch.stack([torch.rand(1, generator=generator) for generator in generators])
            token_n = sample(lm, [prompt_KD] * n, uniform_nT)[:, 0]
        else:
            texts = Texts(
                [prompt_KD] * n, [target_T] * n, [PLAIN._replace(**drawing)] * n, generators, [None] * n, [None] * n
            )
            # The state after the first token tells which one was read.
            every_VTD = lm.embed(torch.arange(lm.vocab_size))[:, None].repeat(1, 2, 1)
            after_VD = lm.read([prompt_KD] * lm.vocab_size, list(every_VTD))[1::2]
            distance_nV = torch.cdist(POLICIES[name](lm, texts)[1::2], after_VD)
            assert distance_nV.amin(1).max() < 0.05 < torch.pdist(after_VD).min()
            token_n = distance_nV.argmin(1)
    assert_frequencies(token_n, p_V)


@pytest.mark.parametrize("eps", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("name", ["scheduled_sampling", "two_pass"])
def test_eps_is_the_share_of_the_ground_truth(name, eps, tiny_llama):
    lm, n = tiny_llama, 1009
    prompt_KD = draw_prompt(lm, 1, 4).detach()
    likeliest = lm.head.logits(lm.hidden(prompt_KD[None])[0]).argmax()
    truth_T = torch.stack([(likeliest + 1) % lm.vocab_size, likeliest])
    own_T = likeliest.repeat(2)
    texts = Texts(
        [prompt_KD] * n, [truth_T] * n, [PLAIN._replace(eps=eps)] * n, [seeded(seed) for seed in range(n)],
        [None] * n, [None] * n,
    )  # fmt: skip
    with torch.no_grad():
        truth_D, own_D = lm.read([prompt_KD] * 2, [lm.embed(truth_T), lm.embed(own_T)])[1::2]
        distance_n2 = torch.cdist(POLICIES[name](lm, texts)[1::2], torch.stack([truth_D, own_D]))
    assert distance_n2.amin(1).max() < 0.05 < (truth_D - own_D).norm()
    share = (distance_n2.argmin(1) == 0).float().mean().item()
    assert share == pytest.approx(eps, abs=4 * (eps * (1 - eps) / n) ** 0.5)


# Settings.


def test_a_setting_is_the_recipes_schedules_at_a_slots_clock():
    overrides = [
        "context.name=soft_decoding",
        'context.eps={kind="linear",start=1.0,end=0.0}',
        'context.temperature={kind="cosine",start=2.0,end=1.0,num_steps=4}',
        "context.guidance_alpha=0.25",
        'context.forced_frac={kind="linear",start=1.0,end=0.5,num_steps=10}',
        "context.num_passes=3",
        "context.own_token=sample",
        "context.top_k=5",
        "context.min_p=0.1",
        "context.guidance=clamp",
        "context.straight_through=true",
    ]
    context = load_recipe(None, overrides).context
    begin = Setting(1.0, 2.0, 0.25, 1.0, 3, True, 5, 0.1, True, True)
    assert setting_at(context, 0.0, 20) == begin
    assert setting_at(context, 5.0, 20) == begin._replace(eps=0.75, temperature=1.0, forced_frac=0.75)
    assert setting_at(context, 2.5, 10).eps == 0.75, "a clock may stand between two steps"
    plain = setting_at(ContextRecipe(), 0.0, 1)
    assert (plain.samples_own, plain.clamps, plain.straight_through, plain.top_k, plain.min_p) == (False,) * 3 + (0, 0)


@pytest.mark.parametrize(("forced_frac", "given"), [(0.0, 0), (0.01, 1), (0.5, 4), (1.0, 7), (1.5, 7), (-1.0, 0)])
def test_mixer_gives_the_leading_share_of_a_text_rounded_up(forced_frac, given):
    setting = PLAIN._replace(forced_frac=forced_frac)
    assert num_given("mixer", setting, 7) == given
    assert all(num_given(name, setting, 7) == 7 for name in POLICIES if name != "mixer")


# What scheduled sampling optimises.

JOINT = torch.tensor([[0.45, 0.05], [0.1, 0.4]], dtype=torch.float64)
"""p(x1, x2) of two binary tokens that depend on each other: row x1, column x2."""


def scheduled_sampling_objective(eps: float, first_2: Tensor, second_22: Tensor) -> Tensor:
    """Expected loss of scheduled sampling on `JOINT`, all sums written out.

    Args:
        first_2: logits of q(x1).
        second_22: logits of q(x2 | what was read), a row a token read.
    """
    log_first_2, log_second_22 = first_2.log_softmax(0), second_22.log_softmax(1)
    own_2 = log_first_2.exp().detach()  # the model's own token carries no gradient
    loss = torch.zeros((), dtype=torch.float64)
    for x1 in range(2):
        for x2 in range(2):
            loss = loss - JOINT[x1, x2] * log_first_2[x1]
            loss = loss - eps * JOINT[x1, x2] * log_second_22[x1, x2]
            for own in range(2):
                loss = loss - (1 - eps) * JOINT[x1, x2] * own_2[own] * log_second_22[own, x2]
    return loss


def optimum(eps: float) -> tuple[Tensor, Tensor]:
    """q(x1) and q(x2 | read) where gradient descent on the objective ends."""
    tables = [
        torch.tensor(table, dtype=torch.float64, requires_grad=True) for table in ([0.3, -0.2], [[0.5, -1], [1, 0]])
    ]
    for _ in range(800):
        grads = torch.autograd.grad(scheduled_sampling_objective(eps, *tables), tables)
        with torch.no_grad():
            for table, grad in zip(tables, grads, strict=True):
                table -= 3.0 * grad
    assert all(grad.abs().max() < 1e-8 for grad in grads), "not at the minimum"
    return tables[0].detach().softmax(0), tables[1].detach().softmax(1)


@pytest.mark.parametrize("eps", [0.0, 0.25, 0.5, 1.0])
def test_the_optimum_of_scheduled_sampling_forgets_the_prefix_as_eps_falls(eps):
    """Scheduled sampling is improper: do not take a low loss under it for a good model.

    The model reads its own token and is scored against what followed the *data's* token. At eps = 0 the two have
    nothing to do with each other, so the best it can do is to predict the marginal p(x2) whatever it reads; only at
    eps = 1 is the optimum the conditional p(x2 | x1). In between it is a mixture of both:
    `(eps p(x1, x2) + (1 - eps) q(x1) p(x2)) / (eps p(x1) + (1 - eps) q(x1))`. That the policy helps at all is
    because a soft prompt has one text to say and not a distribution: where x1 is always the same token, marginal and
    conditional agree. Source: Huszar 2015, 1511.05101, section 3.
    """
    first_2, second_22 = optimum(eps)
    p_first_2, p_second_2 = JOINT.sum(1), JOINT.sum(0)
    torch.testing.assert_close(first_2, p_first_2, rtol=0, atol=1e-6)
    mixed_22 = (eps * JOINT + (1 - eps) * first_2[:, None] * p_second_2) / p_first_2[:, None]
    torch.testing.assert_close(second_22, mixed_22, rtol=0, atol=1e-6)
    conditional_22, marginal_22 = JOINT / p_first_2[:, None], p_second_2.repeat(2, 1)
    assert torch.allclose(second_22, marginal_22, atol=1e-6) == (eps == 0)
    assert torch.allclose(second_22, conditional_22, atol=1e-6) == (eps == 1)
    assert (conditional_22 - marginal_22).abs().max() > 0.3, "the tokens must depend on each other"


@pytest.mark.parametrize("eps", [0.0, 1.0])
def test_at_eps_zero_the_policy_predicts_a_token_without_the_data_before_it(eps, tiny_llama):
    """The same on the policy itself: texts that differ in their first token are told apart only where it is read."""
    states = []
    for first in (101, 7):
        texts = draw_texts(tiny_llama, [PLAIN._replace(eps=eps)] * 3, rows=(0,))
        texts.targets[0][0] = first
        states.append(scheduled_sampling(tiny_llama, texts)[1])
    assert torch.allclose(*states, atol=1e-4) == (eps == 0)
