"""Context policies against their formulas, each other and greedy decoding, and where their gradients go."""

import pytest
import torch

from engine.contexts import POLICIES
from engine.contexts.chosen import free_running, two_pass
from engine.decoding import greedy
from tests.engine.contexts.slow_policies import slow_policy
from tests.engine.contexts.texts import PLAIN, T, draw_texts
from tests.engine.contexts.variants import ALL_VARIANTS, GRADIENTS, SOFT, STATES, VARIANTS, leaves_of
from tests.engine.slow import assert_near, projected_gradients, seeded


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


def test_cold_soft_decoding_is_free_running(float64_lm):
    lm = float64_lm("llama")
    cold = draw_texts(lm, [PLAIN._replace(temperature=1e-4)] * 3)
    assert_near(POLICIES["soft_decoding"].read(lm, cold), free_running(lm, draw_texts(lm, [PLAIN] * 3)), STATES)


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
