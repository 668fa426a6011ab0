"""Contrastive search against its formula, one text at a time and everything read again for every candidate."""

import pytest
import torch

from engine.decoding import Contrastive
from tests.engine.slow import draw_prompt
from tests.tiny import FAMILIES

UNLIKE_K, LIMITS = (3, 7, 1, 2, 5), (11, 2, 13, 1, 7)
TOP_K, ALPHA = 5, 0.6


def slow_contrastive(lm, prompt_KD, limit, top_k=TOP_K, alpha=ALPHA):
    read_SD, token_ids, log_prob = prompt_KD, [], 0.0
    while len(token_ids) < limit and lm.token_rule.end_id not in token_ids:
        past_SD = lm.hidden(read_SD[None])[0]
        p_V = lm.head.logits(past_SD[-1:])[0].softmax(0)
        values = {}
        for v in p_V.topk(top_k).indices.tolist():
            hidden_D = lm.hidden(torch.cat([read_SD, lm.embed(torch.tensor([v]))])[None])[0, -1]
            resemblance = max(torch.cosine_similarity(hidden_D, past_D, dim=0).item() for past_D in past_SD)
            values[v] = (1 - alpha) * p_V[v].item() - alpha * resemblance
        token_ids.append(max(values, key=lambda v: values[v]))
        log_prob += p_V[token_ids[-1]].log().item()
        read_SD = torch.cat([read_SD, lm.embed(torch.tensor(token_ids[-1:]))])
    return token_ids, log_prob


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_contrastive_search_is_its_formula_read_again_for_every_candidate(family, float64_lm):
    lm = float64_lm(family)
    prompts = [draw_prompt(lm, num_vectors, seed=b) for b, num_vectors in enumerate(UNLIKE_K)]
    texts = Contrastive(top_k=TOP_K, alpha=ALPHA).decode(lm, prompts, LIMITS)
    for text, prompt_KD, limit in zip(texts, prompts, LIMITS, strict=True):
        token_ids, log_prob = slow_contrastive(lm, prompt_KD, limit)
        assert text.token_ids == token_ids
        assert text.score == pytest.approx(log_prob, abs=1e-4)
    plain = Contrastive(alpha=0.0).decode(lm, prompts, LIMITS)
    assert [text.token_ids for text in plain] != [text.token_ids for text in texts], "the penalty chose nothing"


def test_one_candidate_is_greedy(tiny_llama):
    prompts = [draw_prompt(tiny_llama, num_vectors, seed=b) for b, num_vectors in enumerate(UNLIKE_K)]
    one = Contrastive(top_k=1, alpha=1.0).decode(tiny_llama, prompts, LIMITS)
    greedy = Contrastive(alpha=0.0).decode(tiny_llama, prompts, LIMITS)
    assert [text.token_ids for text in one] == [text.token_ids for text in greedy]


def test_the_soft_prompts_own_states_are_part_of_what_must_not_be_repeated(tiny_llama):
    """With alpha 1 and all tokens as candidates, the first token is the one least like any prompt state."""
    lm, prompt_KD = tiny_llama, draw_prompt(tiny_llama, 3, seed=1).detach()
    (text,) = Contrastive(top_k=256, alpha=1.0).decode(lm, [prompt_KD], [1])
    candidates = lm.head.logits(lm.hidden(prompt_KD[None])[0, -1:])[0].topk(256).indices
    read_VSD = torch.cat([prompt_KD.expand(256, -1, -1), lm.embed(candidates)[:, None]], 1)
    hidden_VSD = lm.hidden(read_VSD)
    cosine_VK = torch.cosine_similarity(hidden_VSD[:, -1:], hidden_VSD[:, :-1], dim=-1)
    assert text.token_ids == [candidates[cosine_VK.amax(1).argmin()].item()]
