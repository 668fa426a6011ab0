"""Latent decoding against its definition, one text at a time and everything read again at every step."""

import pytest
import torch

from engine.decoding import Greedy, Soft
from tests.engine.slow import draw_prompt
from tests.tiny import FAMILIES

UNLIKE_K, LIMITS = (3, 7, 1, 2, 5), (5, 2, 4, 1, 3)
"""Few steps: what is read is never rounded to a token, so that differences of rounding grow threefold a step."""


def draw_prompts(lm):
    return [draw_prompt(lm, num_vectors, seed=b) for b, num_vectors in enumerate(UNLIKE_K)]


def slow_soft(lm, prompt_KD, limit, temperature, top_k):
    """Tokens said, their log-probabilities added up, and the shares of all tokens at each step."""
    read_SD, said, score, all_shares = prompt_KD, [], 0.0, []
    while len(said) < limit and lm.token_rule.end_id not in said:
        logits_V = lm.head.logits(lm.hidden(read_SD[None])[0, -1:])[0]
        kept = logits_V.argsort(descending=True).tolist()[: top_k or lm.vocab_size]
        raised = {v: (logits_V[v].item() / temperature) for v in kept}
        total = torch.tensor(list(raised.values())).logsumexp(0).item()
        shares = {v: 2.718281828459045 ** (z - total) for v, z in raised.items()}
        said.append(kept[0])
        score += logits_V.log_softmax(0)[kept[0]].item()
        all_shares.append(shares)
        expected_D = sum(share * lm.embed(torch.tensor(v)).double() for v, share in shares.items())
        read_SD = torch.cat([read_SD, expected_D[None].to(lm.dtype)])
    return said, score, all_shares


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (3.0, 5)])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_model_reads_the_embedding_that_it_expects(family, temperature, top_k, float64_lm):
    lm = float64_lm(family)
    prompts = draw_prompts(lm)
    texts = Soft(temperature=temperature, top_k=top_k).decode(lm, prompts, LIMITS)
    for text, prompt_KD, limit in zip(texts, prompts, LIMITS, strict=True):
        said, score, shares = slow_soft(lm, prompt_KD, limit, temperature, top_k)
        assert text.token_ids == said and text.score == pytest.approx(score, abs=1e-3)
        assert len(text.beliefs) == len(said)
        for belief, share in zip(text.beliefs, shares, strict=True):
            assert belief.token_ids == sorted(share, key=share.get, reverse=True)[: len(belief.token_ids)]
            assert belief.shares == pytest.approx([share[v] for v in belief.token_ids], abs=1e-4)
    assert min(belief.shares[0] for text in texts for belief in text.beliefs) < 0.9, "nothing was mixed"


def test_a_belief_says_how_undecided_the_model_is(tiny_llama):
    prompts = draw_prompts(tiny_llama)
    flat, certain = (Soft(temperature=t).decode(tiny_llama, prompts, LIMITS)[0].beliefs[0] for t in (100.0, 1e-4))
    assert flat.entropy == pytest.approx(torch.tensor(float(tiny_llama.vocab_size)).log().item(), abs=0.1)
    assert certain.entropy == pytest.approx(0.0, abs=1e-3) and certain.shares[0] == pytest.approx(1.0)
    assert flat.token_ids[0] == certain.token_ids[0]


@pytest.mark.parametrize("settings", [{"temperature": 1e-4}, {"min_p": 1.0}], ids=str)
def test_what_leaves_one_token_is_greedy(settings, tiny_llama):
    prompts = draw_prompts(tiny_llama)
    texts = Soft(**settings).decode(tiny_llama, prompts, LIMITS)
    assert [text.token_ids for text in texts] == [
        text.token_ids for text in Greedy().decode(tiny_llama, prompts, LIMITS)
    ]
