"""What every term over positions must obey, and each against a slow loop from its formula."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.head import Scores
from engine.losses import POSITION_TERMS, Knobs
from engine.losses.position import position_weights

B, T, V = 5, 7, 31
LENGTHS = (7, 3, 1, 5, 2)
MARGIN = 1.5
ALL_TERMS = pytest.mark.parametrize("name", POSITION_TERMS)


def scores_of(logits_BTV: Tensor, target_BT: Tensor) -> Scores:
    rivals_BTV = logits_BTV.scatter(2, target_BT[..., None], float("-inf"))
    rival_BT, rival_id_BT = rivals_BTV.max(-1)
    target_logit_BT = logits_BTV.gather(2, target_BT[..., None]).squeeze(2)
    log_sum_exp_BT = logits_BTV.logsumexp(-1)
    nats_BT = (log_sum_exp_BT - target_logit_BT).detach()
    return Scores(log_sum_exp_BT, target_logit_BT, rival_BT, rival_id_BT, nats_BT, torch.ones_like(nats_BT))


def draw() -> tuple[Tensor, Tensor, Tensor, Knobs]:
    """Logits around the margin asked for, so that every text has positions on both sides of it."""
    generator = torch.Generator().manual_seed(3)
    logits_BTV = torch.randn(B, T, V, generator=generator)
    target_BT = torch.randint(V, (B, T), generator=generator)
    lead_BT = torch.rand(B, T, generator=generator) * 6
    logits_BTV.scatter_(2, target_BT[..., None], lead_BT[..., None])
    mask_BT = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    weight_BT = 1 + torch.randint(3, (B, T), generator=generator).float()
    margin_B, p_B = torch.linspace(1, 2, B) * MARGIN, torch.tensor([1.0, 2.0, 4.0, 6.0, 10.0])
    knobs = Knobs(margin_B, p_B, torch.tensor([0.0, 0.5, 1.0, 2.0, 5.0]), weight_BT)
    return logits_BTV.requires_grad_(), target_BT, mask_BT, knobs


def lead_by(logits: float) -> tuple[Tensor, Tensor]:
    """Every target ahead of all its rivals, which are level, by `logits`."""
    _, target_BT, _, _ = draw()
    return torch.zeros(B, T, V).scatter(2, target_BT[..., None], logits).requires_grad_(), target_BT


@ALL_TERMS
def test_a_term_gives_one_finite_value_for_each_text(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    loss_B = POSITION_TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    assert loss_B.shape == (B,) and loss_B.dtype == torch.float32
    assert loss_B.isfinite().all() and (loss_B > 0).all()


@ALL_TERMS
def test_a_term_is_zero_where_every_target_leads_by_far(name):
    _, _, mask_BT, knobs = draw()
    logits_BTV, target_BT = lead_by(50.0)
    loss_B = POSITION_TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    torch.testing.assert_close(loss_B, torch.zeros(B), rtol=0, atol=1e-6)


@ALL_TERMS
@pytest.mark.parametrize("lead", [-50.0, 0.0, MARGIN, 50.0])
def test_gradients_are_finite_and_never_reach_padding(name, lead):
    _, _, mask_BT, knobs = draw()
    logits_BTV, target_BT = lead_by(lead)
    POSITION_TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs).sum().backward()
    assert logits_BTV.grad.isfinite().all()
    assert (logits_BTV.grad[~mask_BT] == 0).all()


@pytest.mark.parametrize("name", ["violation_mix", "violation_norm", "squared_hinge", "hinge"])
def test_a_satisfied_position_has_no_gradient(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    scores_BT = scores_of(logits_BTV, target_BT)
    POSITION_TERMS[name](scores_BT, mask_BT, knobs).sum().backward()
    is_satisfied_BT = mask_BT & (scores_BT.margin >= knobs.margin_B[:, None])
    assert is_satisfied_BT.any()
    assert (logits_BTV.grad[is_satisfied_BT] == 0).all()
    assert (logits_BTV.grad[mask_BT & ~is_satisfied_BT].abs().sum(1) > 0).all()


@ALL_TERMS
def test_a_text_costs_the_same_alone_and_in_company(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    together_B = POSITION_TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    together_B.sum().backward()
    for b, length in enumerate(LENGTHS):
        logits_1TV = logits_BTV.detach()[b : b + 1, :length].clone().requires_grad_()
        own = Knobs(*(column[b : b + 1] for column in knobs if column is not None))
        own = own._replace(weight_BT=own.weight_BT[:, :length])
        scores_1T = scores_of(logits_1TV, target_BT[b : b + 1, :length])
        alone_B = POSITION_TERMS[name](scores_1T, torch.ones(1, length, dtype=torch.bool), own)
        alone_B.sum().backward()
        torch.testing.assert_close(alone_B[0], together_B[b])
        torch.testing.assert_close(logits_1TV.grad[0], logits_BTV.grad[b, :length])


@ALL_TERMS
def test_adding_a_constant_to_all_logits_changes_nothing(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    loss_B, shifted_B = (
        POSITION_TERMS[name](scores_of(logits_BTV + shift, target_BT), mask_BT, knobs) for shift in (0.0, 17.0)
    )
    torch.testing.assert_close(loss_B, shifted_B, rtol=1e-5, atol=1e-4)


@ALL_TERMS
def test_padding_may_hold_anything(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    loss_B = POSITION_TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    dirty_BTV = torch.where(mask_BT[..., None], logits_BTV, float("nan"))
    assert torch.equal(loss_B, POSITION_TERMS[name](scores_of(dirty_BTV, target_BT), mask_BT, knobs))


class Position(NamedTuple):
    """One position in float64; `short` is the margin asked for minus the one there is."""

    short: Tensor
    nll: Tensor
    weight: float

    @property
    def violation(self) -> Tensor:
        return self.weight * self.short if self.short > 0 else self.short * 0


def slow_violation_norm(positions: list[Position], p: float, gamma: float) -> Tensor:
    return sum(at.violation**p for at in positions if at.short > 0) ** (1 / p)


def slow_squared_hinge(positions: list[Position], p: float, gamma: float) -> Tensor:
    return sum(at.violation**2 for at in positions) / len(positions)


def slow_hinge(positions: list[Position], p: float, gamma: float) -> Tensor:
    return sum(at.violation for at in positions) / len(positions)


def slow_violation_mix(positions: list[Position], p: float, gamma: float) -> Tensor:
    return slow_violation_norm(positions, p, gamma) + 0.5 * slow_hinge(positions, p, gamma)


def slow_soft_hinge(positions: list[Position], p: float, gamma: float) -> Tensor:
    return sum(at.weight * (1 + at.short.exp()).log() for at in positions) / len(positions)


def slow_cross_entropy(positions: list[Position], p: float, gamma: float) -> Tensor:
    return sum(at.weight * at.nll for at in positions) / len(positions)


def slow_focal(positions: list[Position], p: float, gamma: float) -> Tensor:
    return sum(at.weight * (1 - (-at.nll).exp()) ** gamma * at.nll for at in positions) / len(positions)


SLOW = {
    "violation_mix": slow_violation_mix,
    "violation_norm": slow_violation_norm,
    "squared_hinge": slow_squared_hinge,
    "hinge": slow_hinge,
    "soft_hinge": slow_soft_hinge,
    "cross_entropy": slow_cross_entropy,
    "focal": slow_focal,
}


@ALL_TERMS
@pytest.mark.parametrize(("p", "gamma"), [(1.0, 0.0), (2.0, 0.5), (4.0, 1.0), (6.0, 2.0), (10.0, 5.0)])
def test_a_term_equals_a_slow_loop_from_its_formula(name, p, gamma):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    knobs = knobs._replace(p_B=torch.full((B,), p), gamma_B=torch.full((B,), gamma))
    loss_B = POSITION_TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    slow_BTV = logits_BTV.detach().double().requires_grad_()
    slow = []
    for b, length in enumerate(LENGTHS):
        positions, weights = [], knobs.weight_BT[b, :length].tolist()
        for logits_V, target, weight in zip(slow_BTV[b], target_BT[b].tolist(), weights, strict=False):
            rival = max(logits_V[v] for v in range(V) if v != target)
            short = knobs.margin_B[b].item() - (logits_V[target] - rival)
            positions.append(Position(short, -logits_V.log_softmax(-1)[target], weight))
        slow.append(SLOW[name](positions, p, gamma))
    torch.testing.assert_close(loss_B, torch.stack(slow).float())
    loss_B.sum().backward()
    sum(slow).backward()
    torch.testing.assert_close(logits_BTV.grad, slow_BTV.grad.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 16.0])
def test_focal_stays_finite_where_the_target_is_certain(gamma):
    _, _, mask_BT, knobs = draw()
    logits_BTV, target_BT = lead_by(200.0)
    knobs = knobs._replace(gamma_B=torch.full((B,), gamma))
    loss_B = POSITION_TERMS["focal"](scores_of(logits_BTV, target_BT), mask_BT, knobs)
    loss_B.sum().backward()
    assert loss_B.isfinite().all() and logits_BTV.grad.isfinite().all()


@ALL_TERMS
def test_a_position_of_weight_zero_is_left_out(name):
    logits_BTV, target_BT, mask_BT, knobs = draw()
    weight_BT = knobs.weight_BT.clone()
    weight_BT[:, 0] = 0
    loss_B = POSITION_TERMS[name](scores_of(logits_BTV, target_BT), mask_BT, knobs._replace(weight_BT=weight_BT))
    loss_B.sum().backward()
    assert (logits_BTV.grad[:, 0] == 0).all() and (logits_BTV.grad[0, 1:] != 0).any()
    single = LENGTHS.index(1)
    torch.testing.assert_close(loss_B[single], torch.tensor(0.0), rtol=0, atol=1e-6)


def slow_position_weights(
    margins: list[float], num_leading: int, leading_weight: float, prefix_weight: float
) -> list[float]:
    weights = []
    for t in range(len(margins)):
        is_in_prefix = all(margin > 0 for margin in margins[:t]) and any(not margin > 0 for margin in margins)
        weights.append((leading_weight if t < num_leading else 1) * (prefix_weight if is_in_prefix else 1))
    return weights


MARGINS = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0, float("nan")]), min_size=1, max_size=7)


@settings(deadline=None)
@given(MARGINS, st.integers(0, 11), st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([0.0, 1.0, 5.0]))
@example([1.0, 1.0, 1.0], 2, 3.0, 5.0)
@example([1.0, 0.0, -1.0], 1, 3.0, 5.0)
def test_position_weights_equal_a_slow_loop(margins, num_leading, leading_weight, prefix_weight):
    options = {"num_leading": num_leading, "leading_weight": leading_weight, "prefix_weight": prefix_weight}
    weight_T = position_weights(torch.tensor(margins), **options)
    assert weight_T.tolist() == slow_position_weights(margins, **options)


def test_positions_weigh_by_the_first_mismatch_that_one_included():
    margin_T = torch.tensor([2.0, 1.0, 0.0, 3.0, -1.0])
    weight_T = position_weights(margin_T, num_leading=2, leading_weight=3.0, prefix_weight=5.0)
    assert weight_T.tolist() == [15.0, 15.0, 5.0, 1.0, 1.0]
