"""The sequential pass over a cache against reading everything again for every token."""

import pytest
import torch

from engine.decoding import greedy
from engine.decoding.trajectory import greedy_tokens, sample, trajectory
from tests.engine.slow import assert_near, draw_prompt, projected_gradients, seeded, slow_walk
from tests.tiny import FAMILIES

UNLIKE_K, LIKE_K = (3, 7, 1, 2, 7), (5, 5, 5)
T = 11
"""Longer with the prompt than gemma2's sliding window."""

CONTEXTS = pytest.mark.parametrize("vectors", [UNLIKE_K, LIKE_K], ids=["unlike K", "like K"])


def draw_prompts(lm, vectors):
    return [draw_prompt(lm, num_vectors, seed=b) for b, num_vectors in enumerate(vectors)]


@CONTEXTS
@pytest.mark.parametrize("family", FAMILIES)
def test_a_trajectory_is_that_of_reading_everything_again(family, vectors, float64_lm):
    lm = float64_lm(family)
    prompts = draw_prompts(lm, vectors)
    turn_DD = torch.randn(lm.hidden_size, lm.hidden_size, generator=seeded(41)).to(lm.dtype) / lm.hidden_size**0.5
    told_TD = lm.embed(torch.randint(lm.vocab_size, (T,), generator=seeded(43)))

    def next_read(t, hidden):
        return told_TD[t] + lm.embed_rms * torch.tanh(hidden @ turn_DD)  # a gradient through every state

    states_BTD = trajectory(lm, prompts, T, next_read)
    slow = [slow_walk(lm, prompt_KD, T, next_read)[0] for prompt_KD in prompts]
    assert_near(states_BTD, torch.stack(slow), 1e-6)
    grads = projected_gradients(states_BTD, prompts)
    slow_grads = projected_gradients(torch.stack(slow), prompts)
    for grad_KD, slow_KD in zip(grads, slow_grads, strict=True):
        assert (grad_KD.abs().sum(1) > 0).all()
        assert_near(grad_KD, slow_KD, 1e-5)


def test_a_trajectory_without_gradient_keeps_none(tiny_llama):
    prompts = draw_prompts(tiny_llama, UNLIKE_K)
    with torch.no_grad():
        states_BTD = trajectory(tiny_llama, prompts, T, lambda t, hidden_BD: hidden_BD)
    assert states_BTD.shape == (len(prompts), T, tiny_llama.hidden_size) and not states_BTD.requires_grad


@pytest.mark.parametrize("num_tokens", [1, 2, T])
def test_the_last_state_is_not_read_from(num_tokens, tiny_llama):
    prompts, asked, given = draw_prompts(tiny_llama, UNLIKE_K), [], []

    def next_read(t, hidden_BD):
        asked.append(t)
        given.append(hidden_BD)
        return hidden_BD

    states_BTD = trajectory(tiny_llama, prompts, num_tokens, next_read)
    assert asked == list(range(num_tokens - 1))
    assert states_BTD.shape[1] == num_tokens
    assert all(torch.equal(hidden_BD, states_BTD[:, t]) for t, hidden_BD in enumerate(given))


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_the_greedy_decoder(family, tiny_lm):
    lm = tiny_lm(family)
    prompts = draw_prompts(lm, UNLIKE_K)
    tokens_BT = greedy_tokens(lm, prompts, T)
    assert tokens_BT.shape == (len(prompts), T)
    for prompt_KD, tokens_T in zip(prompts, tokens_BT.tolist(), strict=True):
        (said,) = greedy(lm, prompt_KD[None], max_tokens=T)
        assert tokens_T[: len(said)] == said


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_sample_inverts_the_distribution_at_the_given_numbers(temperature, float64_lm):
    lm = float64_lm("llama")
    prompts = draw_prompts(lm, UNLIKE_K)
    uniform_BT = torch.rand(len(prompts), T, generator=seeded(47))
    tokens_BT = sample(lm, prompts, uniform_BT, temperature=temperature)
    for prompt_KD, uniform_T, tokens_T in zip(prompts, uniform_BT, tokens_BT, strict=True):
        drawn = []

        def next_read(t, hidden_D, drawn=drawn, uniform_T=uniform_T):
            p_V = (lm.head.logits(hidden_D[None])[0].double() / temperature).softmax(0)
            drawn.append(next(v for v in range(len(p_V)) if uniform_T[t] < p_V[: v + 1].sum()))
            return lm.embed(torch.tensor(drawn[-1]))

        states_TD, _ = slow_walk(lm, prompt_KD, T, next_read)
        next_read(T - 1, states_TD[-1])
        assert drawn == tokens_T.tolist()
    assert len(set(tokens_BT.flatten().tolist())) > T, "a peaked distribution would show nothing"


def test_a_sample_is_the_same_alone_and_in_company(float64_lm):
    lm = float64_lm("gemma2")
    prompts = draw_prompts(lm, UNLIKE_K)
    uniform_BT = torch.rand(len(prompts), T, generator=seeded(53))
    together_BT = sample(lm, prompts, uniform_BT)
    for b, prompt_KD in enumerate(prompts):
        assert torch.equal(sample(lm, [prompt_KD], uniform_BT[b : b + 1])[0], together_BT[b])


def test_the_extreme_numbers_draw_tokens_of_the_vocabulary(tiny_llama):
    prompts = draw_prompts(tiny_llama, LIKE_K)
    for extreme in (0.0, 1 - 2**-24):
        tokens_BT = sample(tiny_llama, prompts, torch.full((len(prompts), T), extreme))
        assert ((tokens_BT >= 0) & (tokens_BT < tiny_llama.vocab_size)).all()


def test_a_cold_sample_is_greedy(tiny_llama):
    prompts = draw_prompts(tiny_llama, UNLIKE_K)
    uniform_BT = torch.rand(len(prompts), T, generator=seeded(59))
    cold_BT = sample(tiny_llama, prompts, uniform_BT, temperature=1e-4)
    assert torch.equal(cold_BT, greedy_tokens(tiny_llama, prompts, T))


def test_forced_tokens_stand_first_and_are_read(float64_lm):
    lm = float64_lm("llama")
    prompts = draw_prompts(lm, (3, 7, 2))
    forced = [torch.tensor(ids, dtype=torch.long) for ids in ([101, 7, 13], [], [5])]
    uniform_BT = torch.rand(len(prompts), T, generator=seeded(61))
    tokens_BT = sample(lm, prompts, uniform_BT, forced=forced)
    for b, (prompt_KD, forced_F) in enumerate(zip(prompts, forced, strict=True)):
        num_forced = len(forced_F)
        assert torch.equal(tokens_BT[b, :num_forced], forced_F)
        # What follows is what the prompt with these tokens behind it draws.
        longer_KD = torch.cat([prompt_KD, lm.embed(forced_F)])
        rest_T = sample(lm, [longer_KD], uniform_BT[b : b + 1, num_forced:])[0]
        assert torch.equal(tokens_BT[b, num_forced:], rest_T)
