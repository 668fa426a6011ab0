"""Terms over the target's own positions: any of them can be the main loss.

Owns: what a position costs from its four scores. Must not know: schedules, optimisers, success.

B texts, T target tokens (padded; `mask_BT` is true on real positions). A term returns one value per text, (B,),
float32, and never mixes texts, so the gradient of the sum is the gradient of each. Rivals and log-sum-exp come
from `engine.head.Scores`, so no term ever sees (tokens x vocabulary).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engine.head import Scores

MEAN_WEIGHT = 0.5
"""Weight of the mean violation in `violation_mix`. Measured on the pocket model, LOG 2026-11-21."""


class Knobs(NamedTuple):
    """Per-text values of the loss, each (B,) but the position weights.

    Attributes:
        margin_B: logits asked for between the target and its best rival.
        p_B: order of the violation norm.
        gamma_B: focal's exponent.
        weight_BT: factor on each position's cost; 1 is neutral, 0 leaves a position out.
        lead_BT: what the margin is asked of, where that is not `Scores.margin`: with `proof = "beam"` the target's lead
            over every text that first differs at the position, nats (`engine.certificate`).
    """

    margin_B: Tensor
    p_B: Tensor
    gamma_B: Tensor
    weight_BT: Tensor
    lead_BT: Tensor | None = None


def violations(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B T"]:
    """`weight * max(0, margin - lead)`, with `lead = z[target] - max over v != target of z[v]`, logits; 0 on padding.

    Zero exactly where the target leads by the margin asked for: its best rival, or with `proof = "beam"` every other
    text (`Knobs.lead_BT`).
    Source: multiclass hinge, Crammer & Singer 2001; over whole texts: ours.
    """
    violation_BT = (knobs.margin_B[:, None] - _lead(scores_BT, knobs)).clamp_min(0) * knobs.weight_BT
    return torch.where(mask_BT, violation_BT, 0.0)


def violation_norm(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B"]:
    """The p-norm of a text's violations, between their mean (p = 2) and the worst one (p -> infinity).

        loss[b] = ( sum_t violation[b, t] ** p ) ** (1 / p)

    Args:
        scores_BT: scores of (B, T) positions.
        mask_BT: true on real positions.
        knobs: margin, p and weights per text.
    Returns:
        (B,), logits. Zero, with zero gradient, where every margin is met.
    Source: ours; p 2-3 took fewest steps on the pocket model, 4-6 on weaker ones, LOG 2026-11-21.
    """
    violation_BT = violations(scores_BT, mask_BT, knobs)
    # Dividing by the worst violation first keeps powers in float32's range; it cancels in value and gradient.
    worst_B = violation_BT.detach().amax(1).clamp_min(1e-6)
    relative_BT = violation_BT / worst_B[:, None]
    p_B = knobs.p_B
    # 1e-12 bounds the root's slope where every margin is met.
    return worst_B * (relative_BT.pow(p_B[:, None]).sum(1) + 1e-12).pow(1 / p_B)


def squared_hinge(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B"]:
    """Mean squared violation, logits squared: `mean_t violation[b, t] ** 2`. Source: ours."""
    return violations(scores_BT, mask_BT, knobs).square().sum(1) / mask_BT.sum(1)


def hinge(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B"]:
    """Mean violation, logits. Source: multiclass hinge, Crammer & Singer 2001."""
    return violations(scores_BT, mask_BT, knobs).sum(1) / mask_BT.sum(1)


def violation_mix(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B"]:
    """The p-norm of the violations plus half their mean, logits.

        loss[b] = ( sum_t violation[b, t] ** p ) ** (1 / p) + 0.5 * mean_t violation[b, t]

    The norm chases the worst position, the mean keeps the others moving. Zero where every margin is met.
    Source: ours; the ablation's winner, LOG 2026-11-21.
    """
    return violation_norm(scores_BT, mask_BT, knobs) + MEAN_WEIGHT * hinge(scores_BT, mask_BT, knobs)


def soft_hinge(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B"]:
    """Mean of `weight * log(1 + exp(margin - lead))`, logits or nats: the hinge without its corner.

    Never quite zero, so a satisfied position keeps a small pull. Source: ours.
    """
    return _mean(torch.nn.functional.softplus(knobs.margin_B[:, None] - _lead(scores_BT, knobs)), mask_BT, knobs)


def cross_entropy(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B"]:
    """Weighted mean of `-log p[target]`, nats: what published cramming minimises. Ignores margin and p."""
    return _mean(scores_BT.nll, mask_BT, knobs)


def focal(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B"]:
    """Weighted mean of `-(1 - p[target]) ** gamma * log p[target]`, nats. Source: Lin et al. 2017, 1708.02002."""
    # exp can round above 1; the bound also keeps the power's slope finite for gamma < 1.
    miss_BT = -torch.expm1(-scores_BT.nll.clamp_min(1e-7))
    return _mean(miss_BT.pow(knobs.gamma_B[:, None]) * scores_BT.nll, mask_BT, knobs)


def position_weights(
    margin_T: Float[Tensor, "T"], *, num_leading: int, leading_weight: float, prefix_weight: float
) -> Float[Tensor, "T"]:
    """Weights that favour the beginning: of the first positions, and of those up to the first mismatch.

    The two multiply. Where nothing mismatches the prefix weight is off, or it would only rescale the loss.

    Args:
        margin_T: measured margins, logits.
        num_leading: positions that weigh `leading_weight`.
        prefix_weight: of positions 0 to the first whose margin is not positive, that one included.
    Source: leading positions after progressive cramming, Tarasov et al. 2026, ICML.
    """
    weight_T = torch.ones_like(margin_T)
    weight_T[:num_leading] *= leading_weight
    wrong = (~(margin_T > 0)).nonzero()
    if len(wrong):
        weight_T[: int(wrong[0]) + 1] *= prefix_weight
    return weight_T


def _lead(scores_BT: Scores, knobs: Knobs) -> Tensor:
    return scores_BT.margin if knobs.lead_BT is None else knobs.lead_BT


def _mean(cost_BT: Tensor, mask_BT: Tensor, knobs: Knobs) -> Tensor:
    return torch.where(mask_BT, cost_BT * knobs.weight_BT, 0.0).sum(1) / mask_BT.sum(1)


PositionTerm = Callable[[Scores, Tensor, Knobs], Tensor]

POSITION_TERMS: dict[str, PositionTerm] = {
    "violation_mix": violation_mix,
    "violation_norm": violation_norm,
    "squared_hinge": squared_hinge,
    "hinge": hinge,
    "soft_hinge": soft_hinge,
    "cross_entropy": cross_entropy,
    "focal": focal,
}

MARGIN_TERMS = frozenset(POSITION_TERMS) - {"cross_entropy", "focal"}
"""Terms that ask for a margin."""
