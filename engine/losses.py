"""Loss terms for verbatim reconstruction.

Owns: what a position or a text costs. Must not know: schedules, optimisers, success.

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


class Knobs(NamedTuple):
    """Per-text values of the loss, each (B,) but the position weights.

    Attributes:
        margin_B: logits asked for between the target and its best rival.
        p_B: order of the violation norm.
        weight_BT: factor on each position's violation; 1 is neutral.
    """

    margin_B: Tensor
    p_B: Tensor
    weight_BT: Tensor


def violations(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B T"]:
    """`weight * max(0, margin - (z[target] - max over v != target of z[v]))`, logits; 0 on padding.

    Zero exactly where the target leads its best rival by the margin asked for.
    Source: multiclass hinge, Crammer & Singer 2001.
    """
    violation_BT = (knobs.margin_B[:, None] - scores_BT.margin).clamp_min(0) * knobs.weight_BT
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


def cross_entropy(scores_BT: Scores, mask_BT: Bool[Tensor, "B T"], knobs: Knobs) -> Float[Tensor, "B"]:
    """Weighted mean of `-log p[target]`, nats: what published cramming minimises. Ignores margin and p."""
    nll_BT = torch.where(mask_BT, scores_BT.nll * knobs.weight_BT, 0.0)
    return nll_BT.sum(1) / mask_BT.sum(1)


LossTerm = Callable[[Scores, Tensor, Knobs], Tensor]

TERMS: dict[str, LossTerm] = {
    "violation_norm": violation_norm,
    "squared_hinge": squared_hinge,
    "cross_entropy": cross_entropy,
}
