"""Terms over last hidden states, each against a slow loop from its formula."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.losses.states import contrast, professor_forcing, simctg, turned
from tests.engine.losses.views import (
    KNOBS,
    Text,
    assert_equals_slow,
    slow_greedy,
    slow_states,
    texts_of,
    view_of,
)


def slow_simctg(lm: FrozenLM, text: Text, prompt_KD: Tensor) -> Tensor:
    return slow_contrast(slow_states(lm, prompt_KD, text.tokens), text.knobs.contrast_rho)


def slow_contrast(hidden_TD: Tensor, rho: float) -> Tensor:
    def cosine(i: int, j: int) -> Tensor:
        return hidden_TD[i] @ hidden_TD[j] / (hidden_TD[i].norm() * hidden_TD[j].norm())

    total, num_pairs = torch.tensor(0.0, dtype=torch.float64), 0
    for i in range(len(hidden_TD)):
        for j in range(len(hidden_TD)):
            if i != j:
                cost = rho - cosine(i, i) + cosine(i, j)
                total = total + (cost if cost > 0 else 0 * cost)
                num_pairs += 1
    return total / max(1, num_pairs)


@pytest.mark.parametrize("rho", [0.9, 1.5])
def test_simctg_equals_a_slow_loop_from_its_formula(rho, float64_lm):
    lm = float64_lm("llama")
    knobs = KNOBS.model_copy(update={"contrast_rho": rho})
    assert_equals_slow(simctg, slow_simctg, lm, [replace(text, knobs=knobs) for text in texts_of(lm)])


def test_contrast_counts_only_the_pairs_that_are_too_near():
    """States that lean one way, as real models' do, so that some pairs are too near and some are not."""
    hidden_TD = (torch.randn(7, 5, generator=torch.Generator().manual_seed(3)) + 0.7).requires_grad_()
    slow_TD = hidden_TD.detach().double().requires_grad_()
    cost, slow = contrast(hidden_TD, 0.5), slow_contrast(slow_TD, 0.5)
    torch.testing.assert_close(cost, slow.float())
    (grad_TD,), (slow_grad_TD,) = torch.autograd.grad(cost, hidden_TD), torch.autograd.grad(slow, slow_TD)
    torch.testing.assert_close(grad_TD, slow_grad_TD.float(), rtol=1e-4, atol=1e-6)
    assert 0 <= contrast(hidden_TD, 1.0) - 0.5 < cost, "pairs far enough apart would have lowered the cost"


def test_contrast_does_not_mind_how_long_states_are():
    hidden_TD = torch.randn(5, 7, generator=torch.Generator().manual_seed(3))
    long_TD = hidden_TD * torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0])[:, None]
    torch.testing.assert_close(contrast(hidden_TD, 1.0), contrast(long_TD, 1.0))


def test_contrast_of_like_states_is_what_is_asked_for():
    torch.testing.assert_close(contrast(torch.ones(5, 3), 0.25), torch.tensor(0.25))


def slow_judgement(lm: FrozenLM, text: Text, prompt_KD: Tensor, judge: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of a logistic judge: label 1 on given context, 0 on the model's own; nothing is turned."""
    own = slow_greedy(lm, prompt_KD, len(text.tokens))
    costs = []
    for tokens, is_given in ((text.tokens, True), (own, False)):
        states = slow_states(lm, prompt_KD, tokens)
        p_T = [torch.sigmoid(hidden_D / hidden_D.norm() @ judge[0] + judge[1]) for hidden_D in states]
        costs.append(-torch.stack([(p if is_given else 1 - p).log() for p in p_T]).mean())
    return sum(costs) / 2


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_professor_forcing_teaches_the_judge_to_tell_and_the_prompt_to_hide(family, float64_lm):
    """The judge's gradient is that of the plain cross-entropy, the prompt's is that with its sign changed."""
    lm = float64_lm(family)
    texts = texts_of(lm)
    view = view_of(lm, *texts)
    loss_B = professor_forcing(view)
    loss_B.sum().backward()
    for text, given, loss in zip(texts, view.texts, loss_B, strict=True):
        leaves = [part.double().requires_grad_() for part in (text.prompt_KD, *text.judge)]
        value = slow_judgement(lm, text, leaves[0], (leaves[1], leaves[2]))
        prompt_KD, weight_D, bias = torch.autograd.grad(value, leaves)
        torch.testing.assert_close(loss, value.float())
        scale = float(prompt_KD.abs().max())
        torch.testing.assert_close(given.prompt_KD.grad, -prompt_KD.float(), rtol=1e-3, atol=1e-4 * scale)
        torch.testing.assert_close(given.judge[0].grad, weight_D.float(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(given.judge[1].grad, bias.float(), rtol=1e-4, atol=1e-6)
        assert scale > 0 and (weight_D != 0).any()


def test_a_judge_that_knows_nothing_is_at_chance_and_moves_no_prompt(tiny_llama):
    """Every attempt begins so: the judge has to learn first."""
    blank = torch.zeros(tiny_llama.hidden_size), torch.zeros(1)
    view = view_of(tiny_llama, *(replace(text, judge=blank) for text in texts_of(tiny_llama)))
    loss_B = professor_forcing(view)
    torch.testing.assert_close(loss_B, torch.full_like(loss_B, math.log(2)))
    loss_B.sum().backward()
    assert all((text.prompt_KD.grad == 0).all() for text in view.texts)
    assert any((text.judge[0].grad != 0).any() for text in view.texts)


def test_turning_changes_the_sign_of_a_gradient_and_nothing_else():
    x_TD = torch.randn(3, 5, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.equal(turned(x_TD), x_TD)
    (grad_TD,) = torch.autograd.grad((turned(x_TD) ** 2).sum(), x_TD)
    assert torch.equal(grad_TD, -2 * x_TD)
