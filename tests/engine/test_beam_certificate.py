"""The certificate for beam search against exhaustive search, over languages small enough to write down."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, GenerationMixin, LlamaConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from engine.certificate import ROUNDING_NATS, Certificate, certify, slacks
from engine.decoding.beam import Beams

END = 0
OVERRUN = 3

Prefix = tuple[int, ...]


@dataclass(frozen=True)
class Language:
    """A table of conditional probabilities: what follows a prefix of the target is said, the rest is drawn.

    Attributes:
        size: tokens, the end-of-text token among them.
        target: its tokens; the last one is `END` where it ends.
        right: probability of each target token after the ones before it.
        is_greedy_elsewhere: whether everything else that the language could say puts all it has on one text, which is
            the worst for the target, or spreads it at random.
        rival_tokens: tokens of that one text.
    """

    size: int
    target: Prefix
    right: tuple[float, ...]
    is_greedy_elsewhere: bool
    rival_tokens: int
    seed: int

    @property
    def ends(self) -> bool:
        return self.target[-1] == END

    @property
    def limit(self) -> int:
        """Tokens that a search may decode."""
        return len(self.target) + (OVERRUN if self.ends else 0)

    @cached_property
    def rows(self) -> np.ndarray:
        """What is said where nothing is asked for."""
        return np.random.default_rng(self.seed).dirichlet(np.full(self.size, 0.3), size=11) + 1e-9

    def log_probs(self, prefix: Prefix) -> list[float]:
        """Of every token after a prefix, nats."""
        t = len(prefix)
        weights = self.rows[sum(token * (s + 3) for s, token in enumerate(prefix)) % len(self.rows)].copy()
        if prefix == self.target[:t] and t < len(self.target):
            right = self.target[t]
            if self.is_greedy_elsewhere:
                weights[:] = 1e-12
                weights[next(token for token in range(1, self.size) if token != right)] = 1.0
            weights[right] = 0.0
            weights *= (1 - self.right[t]) / weights.sum()
            weights[right] = self.right[t]
        elif self.is_greedy_elsewhere:
            weights[:] = 1e-12
            weights[END if t + 1 >= self.rival_tokens else 1] = 1.0
        return np.log(weights / weights.sum()).tolist()

    def certificate(self) -> Certificate:
        rows = [self.log_probs(self.target[:t]) for t in range(len(self.target))]
        own = [row[token] for row, token in zip(rows, self.target, strict=True)]
        rivals = [max(p for v, p in enumerate(row) if v != token) for row, token in zip(rows, self.target, strict=True)]
        margin_T = torch.tensor([a - b for a, b in zip(own, rivals, strict=True)], dtype=torch.float64)
        return certify(margin_T, -torch.tensor(own, dtype=torch.float64))

    def lead(self) -> float:
        return self.certificate().lead(OVERRUN if self.ends else 0)

    @cached_property
    def texts(self) -> dict[Prefix, float]:
        """Log-probability of everything a search may finish: what ends, and what does not within the limit."""
        finished, running = {}, {(): 0.0}
        while running:
            longer = {
                (*prefix, token): log_prob + log_p
                for prefix, log_prob in running.items()
                for token, log_p in enumerate(self.log_probs(prefix))
            }
            over = {text for text in longer if text[-1] == END or len(text) == self.limit}
            finished |= {text: longer[text] for text in over}
            running = {text: log_prob for text, log_prob in longer.items() if text not in over}
        return finished

    def likeliest(self, alpha: float) -> Prefix:
        return max(self.texts, key=lambda text: self.texts[text] / len(text) ** alpha)

    def beams(self, width: int, alpha: float, *, early_stopping: bool = False) -> Prefix:
        search = Beams(width, self.limit, END, alpha, early_stopping)
        while not search.is_done:
            offers = []
            for hypothesis in search.running:
                log_p = self.log_probs(hypothesis.token_ids)
                ranked = sorted(range(self.size), key=lambda token, log_p=log_p: -log_p[token])
                offers.append([(token, log_p[token]) for token in ranked[: search.num_next]])
            search.advance([[v for v, _ in o] for o in offers], [[p for _, p in o] for o in offers])
        return tuple(search.best.token_ids)


@st.composite
def languages(draw) -> Language:
    """Most of them sure enough of their target to be near the certificate's edge."""
    size, ends, num_tokens = draw(st.integers(3, 4)), draw(st.booleans()), draw(st.integers(1, 4))
    words = draw(st.lists(st.integers(1, size - 1), min_size=num_tokens, max_size=num_tokens))
    target = (*words[:-1], END) if ends else tuple(words)
    # Log-odds of the right token: 0 is one half, 9 all but certain.
    odds = draw(st.lists(st.floats(-1.0, 9.0), min_size=num_tokens, max_size=num_tokens))
    right = tuple(1 / (1 + math.exp(-d)) for d in odds)
    most = num_tokens + (OVERRUN if ends else 0)
    return Language(size, target, right, draw(st.booleans()), draw(st.integers(1, most)), draw(st.integers(0, 99)))


def widths_of(language: Language) -> Sequence[int]:
    return (1, 2, 5, language.size ** len(language.target))


@settings(deadline=None, max_examples=60)
@given(languages())
def test_a_certified_text_is_what_exhaustive_search_and_every_beam_emit(language):
    certificate = language.certificate()
    alphas = [0.0, 0.5, 1.0] if language.lead() > 0 else [0.0] if certificate.slack > 0 else []
    for alpha in alphas:
        assert language.likeliest(alpha) == language.target
        assert {language.beams(width, alpha) for width in widths_of(language)} == {language.target}
    if alphas:
        assert certificate.is_greedy
        assert certificate.min_margin > language.lead() - 1e-9


@settings(deadline=None, max_examples=60)
@given(languages())
def test_every_other_text_is_behind_by_the_slack(language):
    certificate, log_prob = language.certificate(), language.texts[language.target]
    nearest = max(other for text, other in language.texts.items() if text != language.target)
    assert nearest <= log_prob - certificate.slack + 1e-9
    assert certificate.log_prob == pytest.approx(log_prob, abs=2 * ROUNDING_NATS * len(language.target))


@settings(deadline=None, max_examples=40)
@given(languages(), st.sampled_from([-0.01, 0.01]))
def test_the_bound_is_met_by_the_worst_language_and_decides_it(language, slack):
    """All that the target leaves at its weakest position goes to one text: it is likelier exactly without the slack."""
    odds = [math.log(p / (1 - p)) for p in language.right]
    low, high = -30.0, 30.0
    for _ in range(60):  # shift all log-odds until the certificate is as narrow as asked for
        middle = (low + high) / 2
        right = tuple(1 / (1 + math.exp(-d - middle)) for d in odds)
        edge = Language(language.size, language.target, right, True, language.rival_tokens, 0)
        low, high = (low, middle) if edge.certificate().slack > slack else (middle, high)
    is_target = edge.likeliest(alpha=0) == edge.target
    weakest = int(
        slacks(torch.tensor([-edge.log_probs(edge.target[:t])[v] for t, v in enumerate(edge.target)])).argmin()
    )
    has_room_for_rival = language.rival_tokens > weakest + 1
    assert is_target or slack < 0
    assert not (slack < 0 and has_room_for_rival and is_target)


def test_scores_divided_by_length_are_decided_by_the_lead():
    """A text of five tokens against one of two: longer ones gain, until the lead is positive."""
    for odds, is_certified in ((0.6, False), (0.67, True)):
        right = 1 / (1 + math.exp(-odds))
        language = Language(3, (1, END), (right, 1 - 1e-9), True, 5, 0)
        assert language.certificate().slack > 0
        assert (language.lead() > 0) == is_certified
        assert language.beams(1, 1.0) == language.target
        assert language.beams(4, 0.0) == language.target
        assert (language.beams(4, 1.0) == language.target) == is_certified


def test_a_search_that_stops_when_enough_texts_are_finished_may_miss_a_certified_text():
    """`early_stopping=True` is not covered: two short texts end before the target can."""
    language = Language(3, (1, 1, 1, END), (0.9, 0.9, 0.9, 0.97), False, 1, 3)
    assert language.certificate().slack > 0
    assert language.beams(2, 0.0) == language.target
    assert language.beams(1, 0.0, early_stopping=True) == language.target
    ended_early = {Language(3, (1, 1, 1, END), (0.9, 0.9, 0.9, 0.97), False, 1, s).beams(2, 0.0, early_stopping=True)
                   for s in range(30)}  # fmt: skip
    assert len(ended_early - {language.target}) > 0


class TableModel(PreTrainedModel, GenerationMixin):
    """A language as transformers generates from it."""

    config_class = LlamaConfig
    _supports_cache_class = False

    def __init__(self, language: Language):
        super().__init__(LlamaConfig(vocab_size=language.size, bos_token_id=1, eos_token_id=END, pad_token_id=END))
        self.language = language
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=END)

    def forward(self, input_ids, **_):
        # The first token stands for the prompt.
        rows = [self.language.log_probs(tuple(row[1:])) for row in input_ids.tolist()]
        return CausalLMOutputWithPast(logits=torch.tensor(rows)[:, None])


@settings(deadline=None, max_examples=25)
@given(
    languages(),
    st.sampled_from([(2, 0.0, False), (4, 1.0, False), (16, 1.0, "never"), (3, 0.5, False), (16, 0.0, "never")]),
)
def test_transformers_beams_say_what_is_certified(language, how):
    width, alpha, early_stopping = how
    if not language.lead() > 1e-4:  # transformers sums in float32
        return
    said = TableModel(language).generate(
        torch.tensor([[1]]), num_beams=width, length_penalty=alpha, early_stopping=early_stopping, do_sample=False,
        max_new_tokens=language.limit, use_cache=False,
    )[0, 1:].tolist()  # fmt: skip
    assert tuple(said[: len(language.target)]) == language.target
    assert all(token == END for token in said[len(language.target) :]) or not language.ends


@given(st.lists(st.floats(1e-6, 12.0), min_size=1, max_size=9))
def test_slacks_in_float32_are_those_of_exact_arithmetic(nll):
    slack_T = slacks(torch.tensor(nll, dtype=torch.float32))
    for t, own in enumerate(nll):
        exact = -math.log(-math.expm1(-(own + ROUNDING_NATS))) - sum(n + ROUNDING_NATS for n in nll[t:])
        assert float(slack_T[t]) == pytest.approx(exact, abs=1e-3, rel=1e-4)
        assert exact < -math.log(-math.expm1(-own)) - sum(nll[t:]), "a lower bound"


@pytest.mark.parametrize("nll", [0.0, -2e-6, 1e-30])
def test_a_probability_that_rounds_to_one_leaves_a_finite_slack_and_gradient(nll):
    nll_T = torch.tensor([nll, 0.5, nll], requires_grad=True)
    slack_T = slacks(nll_T)
    slack_T.sum().backward()
    assert slack_T.isfinite().all() and nll_T.grad.isfinite().all()
    assert 10 < slack_T[2] < -math.log(ROUNDING_NATS) + 1


@pytest.mark.parametrize("shift", [0.01, 0.13, 1.0])
def test_an_engine_whose_log_odds_differ_by_delta_takes_delta_and_a_share_of_the_surprise(shift):
    """Slack after the shift is at least `slack - delta - (exp(delta) - 1) * N_0`: why `stop_margin` may ask for it."""
    odds_T = torch.tensor([3.0, 2.5, 4.0, 1.5], dtype=torch.float64)
    before, after = (certify(odds, torch.nn.functional.softplus(-odds)) for odds in (odds_T, odds_T - shift))
    assert after.slack >= before.slack - shift - math.expm1(shift) * -before.log_prob - 1e-6
    assert after.slack < before.slack - shift * 0.5
