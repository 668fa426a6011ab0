"""Soft beam against its definition, one text at a time and everything read again at every step."""

import pytest
import torch

from engine.decoding import Greedy, SoftBeam
from tests.engine.slow import draw_prompt
from tests.tiny import FAMILIES

UNLIKE_K, LIMITS = (3, 7, 1, 2, 5), (11, 2, 13, 1, 7)


def draw_prompts(lm, vectors=UNLIKE_K):
    return [draw_prompt(lm, num_vectors, seed=b) for b, num_vectors in enumerate(vectors)]


def slow_soft_beam(lm, prompt_KD, limit, width, temperature, length_penalty, *, stops=True):
    """Tokens and score of the best finished hypothesis."""
    read_SD, running, finished = prompt_KD, [((), 0.0)], []
    for t in range(1, limit + 1):
        log_p = lm.head.logits(lm.hidden(read_SD[None])[0, -1:])[0].log_softmax(0).tolist()
        grown = [((*ids, v), score + log_p[v]) for ids, score in running for v in range(lm.vocab_size)]
        grown.sort(key=lambda hypothesis: -hypothesis[1])

        def ends(hypothesis, t=t):
            return t == limit or hypothesis[0][-1] == lm.token_rule.end_id

        finished += [(ids, score / t**length_penalty) for ids, score in grown[:width] if ends((ids, score))]
        finished = sorted(finished, key=lambda hypothesis: -hypothesis[1])[:width]
        running = [hypothesis for hypothesis in grown if not ends(hypothesis)][:width]
        if stops and running and len(finished) == width and running[0][1] / t**length_penalty <= finished[-1][1]:
            break
        if running:
            weight_W = (torch.tensor([score for _, score in running]) / temperature).softmax(0)
            last_WD = lm.embed(torch.tensor([ids[-1] for ids, _ in running]))
            read_SD = torch.cat([read_SD, (weight_W[:, None] * last_WD).sum(0, keepdim=True).to(lm.dtype)])
    return list(finished[0][0]), finished[0][1]


@pytest.mark.parametrize(("width", "temperature", "length_penalty"), [(4, 1.0, 1.0), (3, 5.0, 0.0)])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_soft_beam_is_its_definition_read_again_at_every_step(family, width, temperature, length_penalty, float64_lm):
    lm = float64_lm(family)
    prompts = draw_prompts(lm)
    soft_beam = SoftBeam(width=width, temperature=temperature, length_penalty=length_penalty)
    texts = soft_beam.decode(lm, prompts, LIMITS)
    for text, prompt_KD, limit in zip(texts, prompts, LIMITS, strict=True):
        token_ids, score = slow_soft_beam(lm, prompt_KD, limit, width, temperature, length_penalty)
        assert text.token_ids == token_ids
        assert text.score == pytest.approx(score, abs=1e-4)
    cold = soft_beam.model_copy(update={"temperature": 1e-4}).decode(lm, prompts, LIMITS)
    assert max(abs(text.score - c.score) for text, c in zip(texts, cold, strict=True)) > 1e-2, "nothing was mixed"


@torch.no_grad()
def test_without_length_penalty_a_search_that_stops_early_misses_nothing(float64_lm):
    lm, ended = float64_lm("llama"), 0
    prompts, limits = draw_prompts(lm, [1] * 61), [7] * 61
    texts = SoftBeam(width=3, length_penalty=0.0).decode(lm, prompts, limits)
    for text, prompt_KD in zip(texts, prompts, strict=True):
        assert text.token_ids == slow_soft_beam(lm, prompt_KD, 7, 3, 1.0, 0.0, stops=False)[0]
        ended += text.token_ids[-1] == lm.token_rule.end_id
    assert 0 < ended < 61


@pytest.mark.parametrize("family", FAMILIES)
def test_one_hypothesis_is_greedy(family, tiny_lm):
    lm = tiny_lm(family)
    prompts = draw_prompts(lm)
    soft = SoftBeam(width=1, temperature=3.0, length_penalty=0.0).decode(lm, prompts, LIMITS)
    for text, greedy in zip(soft, Greedy().decode(lm, prompts, LIMITS), strict=True):
        assert text.token_ids == greedy.token_ids
        assert text.score == pytest.approx(greedy.score, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cold_mixture_says_the_greedy_text_unless_another_ended_on_the_way(family, tiny_lm):
    lm, num_greedy = tiny_lm(family), 0
    prompts = draw_prompts(lm)
    cold = SoftBeam(width=4, temperature=1e-4).decode(lm, prompts, LIMITS)
    for text, greedy in zip(cold, Greedy().decode(lm, prompts, LIMITS), strict=True):
        num_greedy += text.token_ids == greedy.token_ids
        assert text.token_ids == greedy.token_ids or text.token_ids[-1] == lm.token_rule.end_id
    assert num_greedy > 0
