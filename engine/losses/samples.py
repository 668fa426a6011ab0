"""Terms over sampled continuations: policy gradients and minimum risk.

Owns: estimators over n samples of a text. Must not know: how samples are drawn, weights, schedules.

Source of the rewards: `engine.losses.rewards`. n samples of a text.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from engine.losses.view import View


def reinforce(view: View) -> Float[Tensor, "B"]:
    """Policy gradient with the text's moving mean reward as baseline. Source: Williams 1992."""
    return torch.stack([
        policy_gradient(samples.log_p_n, samples.reward_n, torch.full_like(samples.reward_n, text.baseline))
        for text, samples in zip(view.texts, view.samples(), strict=True)
    ])  # fmt: skip


def rloo(view: View) -> Float[Tensor, "B"]:
    """Policy gradient, each sample's baseline the mean reward of the others.

    Source: Ahmadian et al. 2024, 2402.14740.
    """
    return torch.stack([
        policy_gradient(samples.log_p_n, samples.reward_n, leave_one_out(samples.reward_n))
        for samples in view.samples()
    ])  # fmt: skip


def minimum_risk(view: View) -> Float[Tensor, "B"]:
    """`sum over the unlike samples s of Q(s) * (1 - reward(s))`, Q(s) = p(s)**sharpness, renormalised.

    Source: Shen et al. 2016, 1512.02433, equations 7 and 8.
    """
    return torch.stack([
        expected_risk(samples.log_p_n, samples.reward_n, first_of_each(samples.token_nT), text.knobs.risk_sharpness)
        for text, samples in zip(view.texts, view.samples(), strict=True)
    ])  # fmt: skip


def policy_gradient(
    log_p_n: Float[Tensor, "n"], reward_n: Float[Tensor, "n"], baseline_n: Float[Tensor, "n"]
) -> Float[Tensor, ""]:
    """`-mean of (reward - baseline) * log p`: a value whose gradient estimates that of minus the expected reward."""
    return -((reward_n - baseline_n).detach() * log_p_n).mean()


def leave_one_out(reward_n: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The mean reward of all other samples."""
    return (reward_n.sum() - reward_n) / (len(reward_n) - 1)


def expected_risk(
    log_p_n: Float[Tensor, "n"], reward_n: Float[Tensor, "n"], is_first_n: Tensor, sharpness: float
) -> Float[Tensor, ""]:
    """Risk under the samples' own probabilities, each unlike sample counted once."""
    q_n = (sharpness * log_p_n).masked_fill(~is_first_n, float("-inf")).softmax(0)
    return (q_n * (1 - reward_n)).sum()


def first_of_each(token_nT: Tensor) -> Tensor:
    """True where a sample is not a copy of an earlier one, (n,)."""
    same_nn = (token_nT[:, None] == token_nT[None]).all(-1)
    return ~same_nn.tril(-1).any(1)
