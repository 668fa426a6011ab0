"""Nucleus sampling: what it may draw, how often, and from which numbers."""

from collections import Counter

import pytest
import torch

from engine.decoding import Greedy, Nucleus
from engine.decoding.processors import Processors
from tests.engine.slow import draw_prompt
from tests.tiny import FAMILIES

UNLIKE_K, LIMITS = (3, 7, 1, 2, 5), (11, 2, 13, 1, 7)
NUM_SEEDS = 1009


def draw_prompts(lm):
    return [draw_prompt(lm, num_vectors, seed=b) for b, num_vectors in enumerate(UNLIKE_K)]


def slow_nucleus(logits_V, top_p, temperature):
    """Probabilities by token id of the fewest likeliest tokens that hold `top_p`, renormalised."""
    p_V = (logits_V.double() / temperature).softmax(0)
    kept, held = {}, 0.0
    for v in p_V.argsort(descending=True).tolist():
        kept[v] = p_V[v].item()
        held += kept[v]
        if held >= top_p:
            break
    return {v: p / held for v, p in kept.items()}


@pytest.mark.parametrize(("top_p", "temperature"), [(0.5, 1.0), (0.9, 1.5), (1.0, 0.7)])
@torch.no_grad()
def test_first_tokens_come_as_often_as_the_renormalised_nucleus_says(top_p, temperature, tiny_llama):
    prompt_KD = draw_prompt(tiny_llama, 7, seed=3)
    p = slow_nucleus(tiny_llama.head.logits(tiny_llama.hidden(prompt_KD[None])[0, -1:])[0], top_p, temperature)
    counts = Counter()
    for seed in range(NUM_SEEDS):
        (text,) = Nucleus(top_p=top_p, temperature=temperature, seed=seed).decode(tiny_llama, [prompt_KD], [1])
        counts[text.token_ids[0]] += 1
    assert set(counts) <= set(p)
    cells = [([v], q) for v, q in p.items() if q * NUM_SEEDS >= 5]
    rare = [v for v, q in p.items() if q * NUM_SEEDS < 5]
    cells += [(rare, sum(p[v] for v in rare))] if rare else []
    assert len(cells) > 3, "a peaked distribution would show nothing"
    chi_square = sum((sum(counts[v] for v in ids) - q * NUM_SEEDS) ** 2 / (q * NUM_SEEDS) for ids, q in cells if q > 0)
    freedom = len(cells) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_token_lies_in_the_nucleus_of_its_place(family, tiny_lm):
    lm, top_p, temperature = tiny_lm(family), 0.7, 1.3
    prompts = draw_prompts(lm)
    for seed in range(5):
        texts = Nucleus(top_p=top_p, temperature=temperature, seed=seed).decode(lm, prompts, LIMITS)
        for text, prompt_KD in zip(texts, prompts, strict=True):
            read_SD, log_prob = prompt_KD, 0.0
            for token in text.token_ids:
                logits_V = lm.head.logits(lm.hidden(read_SD[None])[0, -1:])[0]
                assert token in slow_nucleus(logits_V, top_p + 1e-4, temperature)  # rounding at the edge
                log_prob += logits_V.log_softmax(0)[token].item()
                read_SD = torch.cat([read_SD, lm.embed(torch.tensor([token]))])
            assert text.score == pytest.approx(log_prob, rel=1e-4, abs=1e-3)


def test_a_seed_names_a_text(tiny_llama):
    prompts = draw_prompts(tiny_llama)
    first, again, other = (Nucleus(seed=seed).decode(tiny_llama, prompts, LIMITS) for seed in (5, 5, 6))
    assert first == again
    assert [text.token_ids for text in first] != [text.token_ids for text in other]


def test_the_numbers_of_later_tokens_do_not_depend_on_the_limit(tiny_llama):
    prompt_KD = draw_prompt(tiny_llama, 7, seed=1)
    (short,), (long,) = (Nucleus(seed=3).decode(tiny_llama, [prompt_KD], [limit]) for limit in (5, 23))
    assert long.token_ids[:5] == short.token_ids


def test_a_cold_nucleus_is_greedy(tiny_llama):
    prompts = draw_prompts(tiny_llama)
    cold = Nucleus(top_p=1.0, temperature=1e-5).decode(tiny_llama, prompts, LIMITS)
    greedy = Greedy().decode(tiny_llama, prompts, LIMITS)
    assert [text.token_ids for text in cold] == [text.token_ids for text in greedy]


def test_penalties_come_before_the_nucleus(tiny_llama):
    prompts, processors = draw_prompts(tiny_llama), Processors(no_repeat_ngram=1)
    texts = Nucleus(temperature=0.2, processors=processors).decode(tiny_llama, prompts, [23] * len(prompts))
    assert all(len(set(text.token_ids)) == len(text.token_ids) for text in texts)
    free = Nucleus(temperature=0.2).decode(tiny_llama, prompts, [23] * len(prompts))
    assert any(len(set(text.token_ids)) < len(text.token_ids) for text in free), "nothing to penalise"
