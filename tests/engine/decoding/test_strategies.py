"""What every decoding strategy keeps to."""

import pytest

from engine.decoding import STRATEGIES, Greedy
from tests.engine.slow import draw_prompt

UNLIKE_K, LIMITS = (3, 7, 1, 2, 5), (11, 2, 13, 1, 7)

PLAIN = {
    "greedy": {},
    "beam": {"width": 1},
    "constrained": {"width": 1},
    "contrastive": {"alpha": 0.0},
    "nucleus": {"top_p": 0.0},
    "soft": {"top_k": 1},
    "soft_beam": {"width": 1},
}
"""Settings with which each strategy must be greedy; a strategy that has none says so with None."""

STEADY = {"soft": {"temperature": 0.1}}
"""Settings with which rounding does not grow from step to step; a mixture that is read back, warm, is chaotic."""


@pytest.fixture
def prompts(tiny_llama):
    return [draw_prompt(tiny_llama, num_vectors, seed=b) for b, num_vectors in enumerate(UNLIKE_K)]


def test_every_strategy_has_its_plain_settings():
    assert set(PLAIN) == set(STRATEGIES)
    assert all(STRATEGIES[name]().name == name for name in STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_texts_keep_to_their_limits_and_stop_at_the_end_of_text(name, tiny_llama, prompts):
    texts = STRATEGIES[name]().decode(tiny_llama, prompts, LIMITS)
    assert len(texts) == len(prompts)
    end = tiny_llama.token_rule.end_id
    for text, limit in zip(texts, LIMITS, strict=True):
        assert 1 <= len(text.token_ids) <= limit
        assert end not in text.token_ids[:-1]
        assert len(text.token_ids) == limit or text.token_ids[-1] == end
        assert isinstance(text.score, float) and text.score == text.score


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_text_is_the_same_alone_and_in_company(name, tiny_llama, prompts):
    strategy = STRATEGIES[name](**STEADY.get(name, {}))
    together = strategy.decode(tiny_llama, prompts, LIMITS)
    for prompt_KD, limit, text in zip(prompts, LIMITS, together, strict=True):
        (alone,) = strategy.decode(tiny_llama, [prompt_KD], [limit])
        assert alone.token_ids == text.token_ids
        assert alone.score == pytest.approx(text.score, abs=1e-4)


@pytest.mark.parametrize("name", STRATEGIES)
def test_plain_settings_are_greedy(name, tiny_llama, prompts):
    plain = STRATEGIES[name](**PLAIN[name]).decode(tiny_llama, prompts, LIMITS)
    greedy = Greedy().decode(tiny_llama, prompts, LIMITS)
    assert [text.token_ids for text in plain] == [text.token_ids for text in greedy]
