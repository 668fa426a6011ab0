"""What every loss term must obey, and each term against a slow loop from its formula."""

import pytest
import torch
from torch import Tensor

from engine.head import Scores
from engine.losses import TERMS, Knobs

B, T, V = 5, 7, 31
LENGTHS = (7, 3, 1, 5, 2)
MARGIN = 1.5
ALL_TERMS = pytest.mark.parametrize("name", TERMS)


def scores_of(logits_BTV: Tensor, target_BT: Tensor) -> Scores:
    rivals_BTV = logits_BTV.scatter(2, target_BT[..., None], float("-inf"))
    rival_BT, rival_id_BT = rivals_BTV.max(-1)
    target_logit_BT = logits_BTV.gather(2, target_BT[..., None]).squeeze(2)
    return Scores(logits_BTV.logsumexp(-1), target_logit_BT, rival_BT, rival_id_BT)


def draw() -> tuple[Tensor, Tensor, Tensor, Knobs]:
    """Logits around the margin asked for, so that every text has positions on both sides of it."""
    generator = torch.Generator().manual_seed(3)
    logits_BTV = torch.randn(B, T, V, generator=generator)
    target_BT = torch.randint(V, (B, T), generator=generator)
    lead_BT = torch.rand(B, T, generator=generator) * 6
    logits_BTV.scatter_(2, target_BT[..., None], lead_BT[..., None])
    mask_BT = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    weight_BT = 1 + torch.randint(3, (B, T), generator=generator).float()
    knobs = Knobs(torch.linspace(1, 2, B) * MARGIN, torch.tensor([1.0, 2.0, 4.0, 6.0, 10.0]), weight_BT)
    return logits_BTV.requires_grad_(), target_BT, mask_BT, knobs


def lead_by(logits: float) -> tuple[Tensor, Tensor]:
    """Every target ahead of all its rivals, which are level, by `logits`."""
    _, target_BT, _, _ = draw()
    return torch.zeros(B, T, V).scatter(2, target_BT[..., None], logits).requires_grad_(), target_BT


@ALL_TERMS
def test_a_term_gives_one_finite_value_for_each_text(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    loss_B = TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    assert loss_B.shape == (B,) and loss_B.dtype == torch.float32
    assert loss_B.isfinite().all() and (loss_B > 0).all()


@ALL_TERMS
def test_a_term_is_zero_where_every_target_leads_by_far(name):
    _, _, mask_BT, knobs = draw()
    logits_BTV, target_BT = lead_by(50.0)
    loss_B = TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    torch.testing.assert_close(loss_B, torch.zeros(B), rtol=0, atol=1e-6)


@ALL_TERMS
@pytest.mark.parametrize("lead", [-50.0, 0.0, MARGIN, 50.0])
def test_gradients_are_finite_and_never_reach_padding(name, lead):
    _, _, mask_BT, knobs = draw()
    logits_BTV, target_BT = lead_by(lead)
    TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs).sum().backward()
    assert logits_BTV.grad.isfinite().all()
    assert (logits_BTV.grad[~mask_BT] == 0).all()


@pytest.mark.parametrize("name", ["violation_norm", "squared_hinge"])
def test_a_satisfied_position_has_no_gradient(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    scores_BT = scores_of(logits_BTV, target_BT)
    TERMS[name](scores_BT, mask_BT, knobs).sum().backward()
    is_satisfied_BT = mask_BT & (scores_BT.margin >= knobs.margin_B[:, None])
    assert is_satisfied_BT.any()
    assert (logits_BTV.grad[is_satisfied_BT] == 0).all()
    assert (logits_BTV.grad[mask_BT & ~is_satisfied_BT].abs().sum(1) > 0).all()


@ALL_TERMS
def test_a_text_costs_the_same_alone_and_in_company(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    together_B = TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    together_B.sum().backward()
    for b, length in enumerate(LENGTHS):
        logits_1TV = logits_BTV.detach()[b : b + 1, :length].clone().requires_grad_()
        own = Knobs(knobs.margin_B[b : b + 1], knobs.p_B[b : b + 1], knobs.weight_BT[b : b + 1, :length])
        scores_1T = scores_of(logits_1TV, target_BT[b : b + 1, :length])
        alone_B = TERMS[name](scores_1T, torch.ones(1, length, dtype=torch.bool), own)
        alone_B.sum().backward()
        torch.testing.assert_close(alone_B[0], together_B[b])
        torch.testing.assert_close(logits_1TV.grad[0], logits_BTV.grad[b, :length])


@ALL_TERMS
def test_adding_a_constant_to_all_logits_changes_nothing(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    loss_B, shifted_B = (TERMS[name](scores_of(logits_BTV + shift, target_BT), mask_BT, knobs) for shift in (0.0, 17.0))
    torch.testing.assert_close(loss_B, shifted_B, rtol=1e-5, atol=1e-4)


@ALL_TERMS
def test_padding_may_hold_anything(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    loss_B = TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    dirty_BTV = torch.where(mask_BT[..., None], logits_BTV, float("nan"))
    assert torch.equal(loss_B, TERMS[name](scores_of(dirty_BTV, target_BT), mask_BT, knobs))


def slow_violation_norm(violations: list[Tensor], nlls: list[Tensor], weights: list[float], p: float) -> Tensor:
    return sum(violation**p for violation in violations if violation > 0) ** (1 / p)


def slow_squared_hinge(violations: list[Tensor], nlls: list[Tensor], weights: list[float], p: float) -> Tensor:
    return sum(violation**2 for violation in violations) / len(violations)


def slow_cross_entropy(violations: list[Tensor], nlls: list[Tensor], weights: list[float], p: float) -> Tensor:
    return sum(weight * nll for weight, nll in zip(weights, nlls, strict=True)) / len(nlls)


SLOW = {
    "violation_norm": slow_violation_norm,
    "squared_hinge": slow_squared_hinge,
    "cross_entropy": slow_cross_entropy,
}


@ALL_TERMS
@pytest.mark.parametrize("p", [1.0, 2.0, 4.0, 6.0, 10.0])
def test_a_term_equals_a_slow_loop_from_its_formula(name, p):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    knobs = knobs._replace(p_B=torch.full((B,), p))
    loss_B = TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    slow_BTV = logits_BTV.detach().double().requires_grad_()
    slow = []
    for b, length in enumerate(LENGTHS):
        violations, nlls, weights = [], [], knobs.weight_BT[b, :length].tolist()
        for logits_V, target, weight in zip(slow_BTV[b], target_BT[b].tolist(), weights, strict=False):
            rival = max(logits_V[v] for v in range(V) if v != target)
            short = knobs.margin_B[b].item() - (logits_V[target] - rival)
            violations.append(weight * short if short > 0 else logits_V[target] * 0)
            nlls.append(-logits_V.log_softmax(-1)[target])
        slow.append(SLOW[name](violations, nlls, weights, p))
    torch.testing.assert_close(loss_B, torch.stack(slow).float())
    loss_B.sum().backward()
    sum(slow).backward()
    torch.testing.assert_close(logits_BTV.grad, slow_BTV.grad.float(), rtol=1e-4, atol=1e-6)
