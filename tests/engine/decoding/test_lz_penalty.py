"""The LZ penalty against a search through every place and every length."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.decoding import Greedy
from engine.decoding.lz_penalty import lz_saved_bits
from engine.decoding.processors import Processors
from tests.engine.slow import draw_prompt, seeded

V = 5
SETTINGS = {"window": 512, "buffer": 32}


def slow_saved_bits(emitted, vocab_size, window, buffer):
    last, saved = emitted[-window:], []
    for v in range(vocab_size):
        costs = [math.log2(vocab_size)]
        for place in (j for j, token in enumerate(last) if token == v):
            costs.append(math.log2(len(last) - place))
            lengths = [n for n in range(1, min(buffer, place) + 1) if last[place - n : place] == last[-n:]]
            costs += [math.log2(n + 1) - math.log2(n) for n in lengths]
        saved.append(math.log2(vocab_size) - min(costs))
    return saved


@given(
    rows=st.integers(1, 23).flatmap(
        lambda t: st.lists(st.lists(st.integers(0, V - 2), min_size=t, max_size=t), min_size=1, max_size=3)
    ),
    window=st.integers(1, 29),
    buffer=st.integers(1, 7),
)
def test_saved_bits_are_those_of_a_search_through_every_place(rows, window, buffer):
    ours_RV = lz_saved_bits(torch.tensor(rows), V, window=window, buffer=buffer)
    theirs_RV = torch.tensor([slow_saved_bits(row, V, window, buffer) for row in rows])
    torch.testing.assert_close(ours_RV, theirs_RV)
    assert (ours_RV[:, V - 1] == 0).all(), "never emitted, never penalised"


def test_nothing_is_saved_where_nothing_repeats():
    emitted_Rt = torch.randperm(19, generator=seeded(1))[None, :13]
    saved_V = lz_saved_bits(emitted_Rt, 8191, **SETTINGS)[0]
    assert saved_V.count_nonzero() == 13
    # What was emitted once costs its distance, no more: no suffix stands before it.
    back_t = torch.arange(13, 0, -1)
    torch.testing.assert_close(saved_V[emitted_Rt[0]], math.log2(8191) - back_t.log2())


def test_a_longer_match_saves_more():
    """7 followed l other tokens that stand at the end again: log2 V - log2(1 + 1 / l), whatever the distance."""
    for length in range(1, 13):
        phrase = list(range(100, 100 + length))
        emitted = [3, *phrase, 7, *range(200, 211), *phrase]
        saved = lz_saved_bits(torch.tensor([emitted]), 1009, **SETTINGS)[0, 7].item()
        assert saved == pytest.approx(math.log2(1009) - math.log2(1 + 1 / length), rel=1e-5)


def test_matches_are_cut_at_the_buffer_and_sought_in_the_window_alone():
    phrase = list(range(100, 111))
    emitted_1t = torch.tensor([[3, *phrase, 7, 200, *phrase]])
    cut = lz_saved_bits(emitted_1t, 1009, window=512, buffer=4)[0, 7].item()
    assert cut == pytest.approx(math.log2(1009) - math.log2(1 + 1 / 4), rel=1e-5)
    assert lz_saved_bits(emitted_1t, 1009, window=12, buffer=4)[0, 7].item() == 0


def test_the_penalty_takes_strength_times_the_saved_bits_after_the_other_penalties():
    emitted_Rt, scores_RV = torch.tensor([[1, 2, 3, 1, 2]]), torch.randn(1, V, generator=seeded(3))
    before_RV = scores_RV.clone()
    others = {"repetition_penalty": 1.3, "no_repeat_ngram": 3}
    ours_RV = Processors(**others, lz_penalty=0.7, lz_window=4, lz_buffer=2).apply(emitted_Rt, scores_RV)
    saved_RV = lz_saved_bits(emitted_Rt, V, window=4, buffer=2)
    torch.testing.assert_close(ours_RV, Processors(**others).apply(emitted_Rt, scores_RV) - 0.7 * saved_RV)
    assert ours_RV[0, 3] == float("-inf") and torch.equal(scores_RV, before_RV)
    assert torch.equal(Processors().apply(emitted_Rt, scores_RV), scores_RV)


def loops(token_ids, most=3):
    """Whether a text ends in a phrase said at least `most` times in a row."""
    periods = range(1, len(token_ids) // most + 1)
    return any(token_ids[-most * n :] == token_ids[-n:] * most for n in periods)


def test_the_penalty_breaks_a_loop_of_greedy_decoding(tiny_lm):
    lm = tiny_lm("gpt2")
    prompts = [draw_prompt(lm, 5, seed=b) for b in range(31)]
    plain = Greedy().decode(lm, prompts, [47] * len(prompts))
    looping = [prompt for prompt, text in zip(prompts, plain, strict=True) if loops(text.token_ids)]
    assert len(looping) > 10
    processors = Processors(lz_penalty=1.0)
    freed = Greedy(processors=processors).decode(lm, looping, [47] * len(looping))
    assert not any(loops(text.token_ids) for text in freed)
