"""Sampling from the softmax with given numbers."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from engine.decoding.trajectory import sample
from tests.engine.losses.views import slow_log_p, text_of


def chi_square(drawn: list[int], p_V: Tensor) -> tuple[float, int]:
    """Statistic and degrees of freedom; tokens expected fewer than five times are taken together."""
    counts, expected_V = Counter(drawn), (p_V * len(drawn)).tolist()
    often = [v for v, expected in enumerate(expected_V) if expected >= 5]
    rare = len(drawn) - sum(expected_V[v] for v in often)
    pairs = [(counts[v], expected_V[v]) for v in often]
    pairs.append((len(drawn) - sum(counts[v] for v in often), rare))
    return sum((seen - expected) ** 2 / expected for seen, expected in pairs if expected > 1e-3), len(pairs) - 1


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sampled_tokens_are_as_frequent_as_the_softmax_says(temperature, tiny_llama):
    """The first token after prompts of unlike K, and the second after a first one that is forced."""
    num_draws, forced_T = 2000, torch.tensor([200])
    generator = torch.Generator().manual_seed(11)
    texts = [text_of(tiny_llama, seed=s, num_vectors=k, length=2) for s, k in ((1, 1), (2, 3))]
    prompts = [text.prompt_KD for text in texts for _ in range(num_draws)]
    uniform_BT = torch.rand(len(prompts), 2, generator=generator)
    free_BT = sample(tiny_llama, prompts, uniform_BT[:, :1], temperature=temperature)
    forced_BT = sample(tiny_llama, prompts, uniform_BT, temperature=temperature, forced=[forced_T] * len(prompts))
    assert (forced_BT[:, 0] == 200).all()
    for text, *drawn in zip(texts, free_BT[:, 0].split(num_draws), forced_BT[:, 1].split(num_draws), strict=True):
        log_p_TV = slow_log_p(tiny_llama, text.prompt_KD, [200, 0])
        for p_V, token_B in zip((log_p_TV / temperature).softmax(-1), drawn, strict=True):
            statistic, freedom = chi_square(token_B.tolist(), p_V)
            assert freedom > 7 and abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_evenly_spread_numbers_give_every_token_its_share(tiny_llama):
    """Sampling inverts the cumulative distribution, so the counts are right to one draw, not only on average."""
    num_draws = 1009
    text = text_of(tiny_llama, seed=1, num_vectors=2, length=1)
    uniform_BT = (torch.arange(num_draws)[:, None] + 0.5) / num_draws
    token_B = sample(tiny_llama, [text.prompt_KD] * num_draws, uniform_BT)[:, 0]
    expected_V = slow_log_p(tiny_llama, text.prompt_KD, [0])[0].exp() * num_draws
    assert ((token_B.bincount(minlength=len(expected_V)) - expected_V).abs() < 1.01).all()
    assert (token_B.diff() >= 0).all()


def test_every_number_below_one_gives_a_token_and_a_cold_sample_is_greedy(tiny_llama):
    text = text_of(tiny_llama, seed=1, num_vectors=2, length=3)
    extremes_BT = torch.tensor([[0.0] * 3, [1 - 2**-24] * 3])
    token_BT = sample(tiny_llama, [text.prompt_KD] * 2, extremes_BT)
    assert (token_BT >= 0).all() and (token_BT < tiny_llama.vocab_size).all()
    assert token_BT[0, 0] == 0, "the first token has some probability"
    cold_BT = sample(tiny_llama, [text.prompt_KD] * 2, torch.tensor([[0.0] * 2, [0.9] * 2]), temperature=1e-4)
    assert (cold_BT == text.target_T[:2]).all()
