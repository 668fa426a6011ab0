"""Terms over next-token distributions against slow loops, and optimal next tokens against all continuations."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.losses.tokens import (
    autoregressive,
    earlier_tokens,
    entropy,
    log_one_minus,
    optimal_completion,
    optimal_tokens,
    repeated_ngrams,
    sequence_unlikelihood,
    unlikelihood,
)
from tests.engine.losses.views import (
    KNOBS,
    Text,
    assert_equals_slow,
    slow_greedy,
    slow_log_p,
    text_of,
    texts_of,
    value_and_gradients,
    view_of,
)


def slow_unlikelihood(lm: FrozenLM, text: Text, prompt_KD: Tensor) -> Tensor:
    log_p_TV, total = slow_log_p(lm, prompt_KD, text.tokens, text.temperature), torch.tensor(0.0, dtype=torch.float64)
    for t, token in enumerate(text.tokens):
        for v in set(text.tokens[:t]) - {token}:
            total = total - (1 - log_p_TV[t, v].exp()).log()
    return total / len(text.tokens)


def slow_sequence_unlikelihood(lm: FrozenLM, text: Text, prompt_KD: Tensor) -> Tensor:
    own, n = slow_greedy(lm, prompt_KD, len(text.tokens)), text.knobs.ngram
    log_p_TV, total = slow_log_p(lm, prompt_KD, own, text.temperature), torch.tensor(0.0, dtype=torch.float64)
    for t in slow_repeats(own, n):
        total = total - (1 - log_p_TV[t, own[t]].exp()).log()
    return total / len(own)


def slow_repeats(tokens: list[int], n: int) -> list[int]:
    """Where a token is the last of n tokens that also stand, in that order, further left."""
    ends = range(n - 1, len(tokens))
    return [t for t in ends if any(tokens[t + 1 - n : t + 1] == tokens[s + 1 - n : s + 1] for s in range(n - 1, t))]


def slow_entropy(lm: FrozenLM, text: Text, prompt_KD: Tensor) -> Tensor:
    log_p_TV = slow_log_p(lm, prompt_KD, text.tokens, text.temperature)
    return torch.stack([-(log_p_V.exp() * log_p_V).sum() for log_p_V in log_p_TV]).mean()


def slow_autoregressive(lm: FrozenLM, text: Text, prompt_KD: Tensor) -> Tensor:
    log_p_TV = slow_log_p(lm, prompt_KD, slow_greedy(lm, prompt_KD, len(text.tokens)), text.temperature)
    return torch.stack([-log_p_TV[t, token] for t, token in enumerate(text.tokens)]).mean()


def slow_optimal_completion(lm: FrozenLM, text: Text, prompt_KD: Tensor) -> Tensor:
    own = slow_greedy(lm, prompt_KD, len(text.tokens))
    log_p_TV, total = slow_log_p(lm, prompt_KD, own, text.temperature), torch.tensor(0.0, dtype=torch.float64)
    for t in range(len(own)):
        costs = [edit_distance(own[:t], text.tokens[:j]) for j in range(len(text.tokens) + 1)]
        tokens = {token for token, cost in zip(text.tokens, costs, strict=False) if cost == min(costs)}
        total = total - sum(log_p_TV[t, token] for token in tokens) / max(1, len(tokens))
    return total / len(own)


def edit_distance(ours: list[int], theirs: list[int]) -> int:
    """Insertions, deletions and substitutions from one to the other."""
    row = list(range(len(theirs) + 1))
    for i, our in enumerate(ours):
        above, row = row, [i + 1]
        for j, their in enumerate(theirs):
            row.append(min(above[j] + (our != their), above[j + 1] + 1, row[j] + 1))
    return row[-1]


SLOW = {
    "unlikelihood": (unlikelihood, slow_unlikelihood),
    "sequence_unlikelihood": (sequence_unlikelihood, slow_sequence_unlikelihood),
    "entropy": (entropy, slow_entropy),
    "autoregressive": (autoregressive, slow_autoregressive),
    "optimal_completion": (optimal_completion, slow_optimal_completion),
}


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("name", SLOW)
def test_a_term_equals_a_slow_loop_from_its_formula(name, family, float64_lm):
    lm = float64_lm(family)
    # gemma2 repeats itself with p near 1: 1 - p is what float32 logits of about 30 leave of it.
    is_rough = family == "gemma2" and name in ("unlikelihood", "sequence_unlikelihood")
    assert_equals_slow(*SLOW[name], lm, texts_of(lm), slack=100 if is_rough else 1)


def test_optimal_completion_differs_from_autoregressive_only_after_the_first_error(float64_lm):
    """A rollout that begins with another token is one edit off, and may go on as if that token was the target's."""
    lm = float64_lm("llama")
    text = text_of(lm, seed=17, length=7)
    own = slow_greedy(lm, text.prompt_KD.double(), 7)
    late = replace(text, target_T=torch.tensor([*own[:6], 256]))
    early = replace(text, target_T=torch.tensor(own[1:] + [256]))
    view = view_of(lm, late, early)
    costs_B, naive_B = optimal_completion(view), autoregressive(view)
    torch.testing.assert_close(costs_B[0], naive_B[0])
    assert costs_B[1] < naive_B[1], "own[1:] is what the model says next, one token later"


def test_a_place_at_which_nothing_is_left_to_say_costs_nothing(float64_lm):
    lm = float64_lm("llama")
    text = text_of(lm, seed=17, length=7)
    own = slow_greedy(lm, text.prompt_KD.double(), 7)
    text = replace(text, target_T=torch.tensor([256, *own[:6]]))
    assert not optimal_tokens(torch.tensor(own), text.target_T)[1][6].any()
    assert_equals_slow(optimal_completion, slow_optimal_completion, lm, [text])


def test_sequence_unlikelihood_pushes_down_the_last_token_of_every_repeat(float64_lm):
    lm = float64_lm("gemma2")
    text = replace(text_of(lm, seed=5, length=7), knobs=KNOBS.model_copy(update={"ngram": 3}))
    own = slow_greedy(lm, text.prompt_KD.double(), 7)
    assert len(set(own)) == 1, "this model says one token for ever"
    log_p_TV = slow_log_p(lm, text.prompt_KD.double(), own)
    expected = -sum((1 - log_p_TV[t, own[t]].exp()).log() for t in (3, 4, 5, 6)) / 7
    torch.testing.assert_close(sequence_unlikelihood(view_of(lm, text))[0], expected.float(), rtol=1e-3, atol=0)


def test_sequence_unlikelihood_stays_finite_where_the_model_is_certain_of_a_repeat(float64_lm):
    """A loop in which p rounds to 1 is what the term is there to break."""
    lm = float64_lm("gemma2")
    loss_B, (grad_KD,) = value_and_gradients(sequence_unlikelihood, view_of(lm, text_of(lm, seed=5, length=31)))
    assert loss_B.isfinite().all() and loss_B > 5 and grad_KD.isfinite().all()


@pytest.mark.parametrize("log_p", [0.0, -1e-12, -1e-5, -0.5, -20.0, -200.0, float("-inf")])
def test_log_one_minus_is_exact_where_it_can_be_and_finite_everywhere(log_p):
    x = torch.tensor(log_p, requires_grad=True)
    value = log_one_minus(x)
    value.backward()
    exact = torch.tensor(min(log_p, -1e-6), dtype=torch.float64)
    torch.testing.assert_close(value.detach().double(), (-torch.expm1(exact)).log(), rtol=1e-5, atol=2**-24)
    assert x.grad.isfinite() and x.grad.abs() <= 1.1e6


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=7)


@settings(deadline=None)
@given(TOKENS, st.integers(1, 5))
def test_repeated_ngrams_are_those_of_a_slow_search(tokens, n):
    assert repeated_ngrams(torch.tensor(tokens), n).nonzero().flatten().tolist() == slow_repeats(tokens, n)


@settings(deadline=None)
@given(TOKENS)
def test_earlier_tokens_are_those_before_a_position_but_its_own(tokens):
    unlike_U, is_candidate_TU = earlier_tokens(torch.tensor(tokens))
    assert unlike_U.tolist() == sorted(set(tokens))
    for t, is_candidate_U in enumerate(is_candidate_TU):
        assert set(unlike_U[is_candidate_U].tolist()) == set(tokens[:t]) - {tokens[t]}


ALPHABET = range(3)
PAIRS = st.lists(st.tuples(st.sampled_from(ALPHABET), st.sampled_from(ALPHABET)), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
@example([(0, 0), (1, 1), (2, 2), (0, 0)])
@example([(0, 0), (0, 1), (1, 0), (1, 1)])
@example([(0, 1), (1, 2), (2, 0), (0, 1)])
@example([(1, 0), (2, 1), (0, 2), (0, 0)])
def test_optimal_tokens_begin_the_best_of_all_continuations(pairs):
    """Ending at once may be as good as any continuation; it begins with no token, so it adds none.

    No continuation of least distance is longer than the target: its tokens are all copied from there.
    """
    own, target = (list(side) for side in zip(*pairs, strict=True))
    unlike_U, is_optimal_TU = optimal_tokens(torch.tensor(own), torch.tensor(target))
    assert unlike_U.tolist() == sorted(set(target)) and len(is_optimal_TU) == len(own)
    continuations = [list(c) for length in range(len(target) + 2) for c in product(ALPHABET, repeat=length)]
    for t, is_optimal_U in enumerate(is_optimal_TU):
        costs = [Levenshtein.distance(own[:t] + continuation, target) for continuation in continuations]
        least = min(costs)
        best = [c for c, cost in zip(continuations, costs, strict=True) if cost == least]
        assert set(unlike_U[is_optimal_U].tolist()) == {continuation[0] for continuation in best if continuation}


def test_nothing_is_left_to_say_after_a_rollout_that_has_said_it_all():
    """All but the first token is there, which cannot be put right by going on."""
    unlike_U, is_optimal_TU = optimal_tokens(torch.tensor([5, 7, 3, 3]), torch.tensor([2, 5, 7, 3]))
    optimal = [set(unlike_U[is_optimal_U].tolist()) for is_optimal_U in is_optimal_TU]
    assert optimal == [{2}, {2, 5, 7}, {3}, set()]
