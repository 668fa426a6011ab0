"""Beam search against transformers' own, and its state against what it promises."""

import pytest
import torch

from engine.decoding import Beam, Greedy
from engine.decoding.beam import Beams
from engine.decoding.processors import Processors
from tests.engine.slow import draw_prompt
from tests.tiny import FAMILIES

B, K, MAX_TOKENS = 5, 7, 13


def draw_prompts(lm, num_prompts=B, num_vectors=K):
    return [draw_prompt(lm, num_vectors, seed=b) for b in range(num_prompts)]


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(("width", "length_penalty"), [(1, 1.0), (3, 1.0), (4, 0.0), (3, 2.5), (4, -1.5)])
@pytest.mark.parametrize("family", FAMILIES)
def test_beam_search_is_that_of_transformers(family, width, length_penalty, early_stopping, tiny_lm):
    lm = tiny_lm(family)
    prompts = draw_prompts(lm)
    ours = Beam(width=width, length_penalty=length_penalty, early_stopping=early_stopping).decode(
        lm, prompts, [MAX_TOKENS] * B
    )
    for said, prompt_KD in zip(ours, prompts, strict=True):
        theirs = lm.model.generate(
            inputs_embeds=prompt_KD[None].to(lm.dtype),
            attention_mask=torch.ones(1, K, dtype=torch.long),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            num_beams=max(width, 2) if width > 1 else 1,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            pad_token_id=lm.token_rule.end_id,
            return_dict_in_generate=True,
            output_scores=True,
        )
        ids = theirs.sequences[0].tolist()
        assert said.token_ids == ids[: len(said.token_ids)]
        assert all(token == lm.token_rule.end_id for token in ids[len(said.token_ids) :])
        if width > 1:
            assert said.score == pytest.approx(theirs.sequences_scores[0].item(), rel=1e-5, abs=2e-5)
        else:
            log_p = lm.model.compute_transition_scores(theirs.sequences, theirs.scores, normalize_logits=True)
            mean = log_p[0].sum().item() / len(said.token_ids) ** length_penalty
            assert said.score == pytest.approx(mean, rel=1e-5, abs=2e-5)


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty` with `inputs_embeds`:UserWarning")
@pytest.mark.filterwarnings("ignore:Passing `no_repeat_ngram_size` with `inputs_embeds`:UserWarning")
def test_beam_with_penalties_is_that_of_transformers(tiny_llama):
    prompts = draw_prompts(tiny_llama)
    processors = Processors(repetition_penalty=1.3, no_repeat_ngram=2)
    for strategy, beams in ((Beam(width=3, processors=processors), 3), (Greedy(processors=processors), 1)):
        ours = strategy.decode(tiny_llama, prompts, [MAX_TOKENS] * B)
        plain = type(strategy)().decode(tiny_llama, prompts, [MAX_TOKENS] * B)
        assert [said.token_ids for said in ours] != [said.token_ids for said in plain]
        for said, prompt_KD in zip(ours, prompts, strict=True):
            ids = tiny_llama.model.generate(
                inputs_embeds=prompt_KD[None],
                attention_mask=torch.ones(1, K, dtype=torch.long),
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                num_beams=beams,
                repetition_penalty=1.3,
                no_repeat_ngram_size=2,
                pad_token_id=tiny_llama.token_rule.end_id,
            )[0].tolist()
            assert said.token_ids == ids[: len(said.token_ids)]


def test_finished_texts_leave_and_the_best_of_them_wins():
    beams = Beams(width=2, max_tokens=5, end_id=0, length_penalty=1.0)
    assert beams.advance([[1, 0, 2, 3]], [[-0.5, -0.7, -2.0, -3.0]]) == [0, 0]
    assert [h.token_ids for h in beams.running] == [(1,), (2,)]
    assert [text.token_ids for text in beams.finished] == [[0]]
    parents = beams.advance([[0, 1, 2, 3], [0, 1, 2, 3]], [[-0.1, -4.0, -5.0, -6.0], [-0.2, -4.0, -5.0, -6.0]])
    assert beams.best.token_ids == [1, 0] and beams.best.score == pytest.approx(-0.3)
    # (2, 0) scores -1.1 and displaces nobody; the leader (1, 1) at -4.5 / 2 cannot beat the second finished text.
    assert parents == [] and beams.is_done
    assert [text.token_ids for text in beams.finished] == [[1, 0], [0]]


def test_a_text_that_never_ends_is_finished_at_its_length():
    beams = Beams(width=1, max_tokens=2, end_id=None)
    assert beams.advance([[4, 5]], [[-1.0, -2.0]]) == [0]
    assert not beams.is_done
    beams.advance([[5, 4]], [[-1.0, -2.0]])
    assert beams.is_done and beams.best.token_ids == [4, 5] and beams.best.score == pytest.approx(-1.0)
