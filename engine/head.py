"""The language-model head, scored in chunks.

Owns: logits, and the four numbers a position needs from them. Must not know: losses, slots, success.

N scored positions, D hidden size, V vocabulary. No tensor of N x V elements ever exists, only a chunk of rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engine.float32_product import from_states, to_states

CHUNK_ELEMENTS, CHUNK_ELEMENTS_ON_DEVICE = 1 << 24, 1 << 26
"""Logits held at once: 64 MiB in float32 on a CPU, small beside any model's weights; 256 MiB on a device, where a
product of 128 rows leaves most of it idle. Assumptions."""


class Scores(NamedTuple):
    """What the head says about each target position. Float32; any leading shape.

    Attributes:
        log_sum_exp: of the logits over the temperature.
        target_logit, rival_logit: as they are, whatever the temperature; margins are their difference.
        nats: cross-entropy of the target token at temperature 1; a measurement, without gradient.
        sharpness: 1 / temperature.
    """

    log_sum_exp: Tensor
    target_logit: Tensor
    rival_logit: Tensor
    rival_id: Tensor
    nats: Tensor
    sharpness: Tensor

    @property
    def margin(self) -> Tensor:
        """Target logit minus the best other logit, in logits. Greedy decoding is right where it is positive."""
        return self.target_logit - self.rival_logit

    @property
    def nll(self) -> Tensor:
        """Cross-entropy of the target token at the temperature, nats."""
        return self.log_sum_exp - self.target_logit * self.sharpness


@dataclass(frozen=True)
class Head:
    """`softcap(scale * (hidden @ weight.T + bias))`, the output rule of a frozen causal language model.

    Attributes:
        weight_VD: frozen output embedding.
        bias_V: added to the logits, or None.
        scale: logit multiplier (Cohere, Granite, Falcon-H1); 1 elsewhere.
        softcap: `cap * tanh(z / cap)` (Gemma 2), or None.
    """

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @property
    def rows_at_once(self) -> int:
        """Positions whose logits are held at once."""
        elements = CHUNK_ELEMENTS if self.weight_VD.device.type == "cpu" else CHUNK_ELEMENTS_ON_DEVICE
        return max(1, elements // self.weight_VD.shape[0])

    def logits(self, hidden_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Float32 logits of a few positions."""
        return self._finish(from_states(hidden_ND, self.weight_VD), self.bias_V)

    def token_logits(self, hidden_ND: Float[Tensor, "N D"], token_U: Int[Tensor, "U"]) -> Float[Tensor, "N U"]:
        """Float32 logits of a few tokens only, differentiable in `hidden_ND`."""
        bias_U = None if self.bias_V is None else self.bias_V[token_U]
        return self._finish(from_states(hidden_ND, self.weight_VD[token_U]), bias_U)

    def entropy(
        self, hidden_ND: Float[Tensor, "N D"], sharpness_N: Float[Tensor, "N"] | None = None
    ) -> Float[Tensor, "N"]:
        """Entropy of the next-token distribution, nats, a chunk of logits at a time in both directions."""
        rows = self.rows_at_once
        sharpness_N = torch.ones(len(hidden_ND), device=hidden_ND.device) if sharpness_N is None else sharpness_N
        chunks = zip(hidden_ND.split(rows), sharpness_N.split(rows), strict=True)
        return torch.cat([_recomputed(self._entropy, *chunk) for chunk in chunks])

    def _entropy(self, hidden_ND: Tensor, sharpness_N: Tensor) -> Tensor:
        log_p_NV = (self.logits(hidden_ND) * sharpness_N[:, None]).log_softmax(-1)
        return -(log_p_NV.exp() * log_p_NV).sum(-1)

    def _finish(self, product: Tensor, bias: Tensor | None) -> Tensor:
        """From the raw product to the logit: bias, float32, scale, softcap."""
        logits = (product if bias is None else product + bias).float()
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def slope(self, logit: Tensor) -> Tensor | float:
        """Derivative of the final logit by the raw inner product: of the shape of `logit`, or the same for all."""
        if self.softcap is None:
            return self.scale
        return self.scale * (1 - (logit / self.softcap) ** 2)

    def score(
        self,
        hidden_ND: Float[Tensor, "N D"],
        target_N: Int[Tensor, "N"],
        sharpness_N: Float[Tensor, "N"] | None = None,
    ) -> Scores:
        """Log-sum-exp, target logit, best rival and its id for every position, differentiable in `hidden_ND`.

        Args:
            hidden_ND: last hidden states, aligned so that row n predicts `target_N[n]`.
            target_N: token ids in [0, V).
            sharpness_N: 1 / temperature of the softmax; None is 1, which spares a second log-sum-exp.
        Returns:
            Scores of shape (N,). Backward costs two gathered rows a position for the logits, and one chunked
            product with the weights only where the log-sum-exp carries a gradient.
        Source: ours; the chunking follows cut cross-entropy, Wijmans et al. 2024, 2411.09009.
        """
        columns: Any = _Score.apply(hidden_ND, target_N, sharpness_N, self)
        sharpness = torch.ones_like(columns[0]) if sharpness_N is None else sharpness_N
        return Scores(*columns, sharpness=sharpness)


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_ND: Tensor, target_N: Tensor, sharpness_N: Tensor | None, head: Head):
        parts, logits_MV = [], None
        for rows in _chunks(head, len(hidden_ND)):
            logits_MV = None  # only now, so that two chunks are never held
            logits_MV = head.logits(hidden_ND[rows])
            parts.append(_score_chunk(logits_MV, target_N[rows], None if sharpness_N is None else sharpness_N[rows]))
        log_sum_exp, target_logit, rival_logit, rival_id, nats = map(torch.cat, zip(*parts, strict=True))
        ctx.head = head
        # Of the last chunk, which backward begins with; not where a softcap's slope takes its room.
        kept_MV = logits_MV if ctx.needs_input_grad[0] and head.softcap is None else None
        columns = log_sum_exp, target_logit, rival_logit, rival_id
        ctx.save_for_backward(hidden_ND, target_N, sharpness_N, *columns, kept_MV)
        ctx.mark_non_differentiable(rival_id, nats)
        ctx.set_materialize_grads(False)
        return log_sum_exp, target_logit, rival_logit, rival_id, nats

    @staticmethod
    def backward(ctx, grad_lse, grad_target, grad_rival, *_):
        hidden_ND, target_N, sharpness_N, log_sum_exp, target_logit, rival_logit, rival_id, kept_MV = ctx.saved_tensors
        head: Head = ctx.head
        grad_ND = torch.zeros_like(hidden_ND, dtype=torch.float32)
        if grad_lse is not None:
            sharpness_N = torch.ones_like(grad_lse) if sharpness_N is None else sharpness_N
            grad_target = torch.zeros_like(grad_lse) if grad_target is None else grad_target
            for chunk in reversed(_chunks(head, len(hidden_ND))):
                within_M = _worth_computing(grad_lse[chunk])
                rows = within_M + chunk.start
                if kept_MV is None:
                    logits_MV = head.logits(hidden_ND[rows])
                else:
                    logits_MV, kept_MV = kept_MV if len(within_M) == len(kept_MV) else kept_MV[within_M], None
                pull_MV = (logits_MV * sharpness_N[rows, None]).sub_(log_sum_exp[rows, None]).exp_()
                _pull(pull_MV, target_N[rows], grad_lse[rows] * sharpness_N[rows], grad_target[rows])
                pull_MV *= head.slope(logits_MV)
                grad_ND[rows] += to_states(pull_MV, head.weight_VD)
                del logits_MV, pull_MV  # before the next chunk's are made
            grad_target = grad_target.index_fill(0, _worth_computing(grad_lse), 0.0)
        _add_rows(grad_ND, head, target_N, grad_target, target_logit)
        _add_rows(grad_ND, head, rival_id, grad_rival, rival_logit)
        return grad_ND.to(hidden_ND.dtype), None, None, None


def _recomputed(function: Callable[..., Tensor], *args: Tensor) -> Any:
    """`function(*args)`; what lies between is computed again in backward instead of being kept."""
    return checkpoint(function, *args, use_reentrant=False)


def _chunks(head: Head, num_rows: int) -> list[slice]:
    """At least one, which may be empty."""
    return [slice(first, first + head.rows_at_once) for first in range(0, max(1, num_rows), head.rows_at_once)]


def _score_chunk(logits_NV: Tensor, target_N: Tensor, sharpness_N: Tensor | None) -> tuple[Tensor, ...]:
    """Columns of `Scores` and the nats; the logits are left as they were."""
    plain = logits_NV.logsumexp(-1)
    log_sum_exp = plain if sharpness_N is None else (logits_NV * sharpness_N[:, None]).logsumexp(-1)
    target_logit = logits_NV.gather(1, target_N[:, None]).squeeze(1)
    rival_logit, rival_id = logits_NV.scatter_(1, target_N[:, None], float("-inf")).max(-1)
    logits_NV.scatter_(1, target_N[:, None], target_logit[:, None])
    return log_sum_exp, target_logit, rival_logit, rival_id, plain - target_logit


def _pull(p_MV: Tensor, target_M: Tensor, grad_lse_M: Tensor, grad_target_M: Tensor) -> None:
    """Turn probabilities into derivatives by the logits: `grad_lse * p`, and `grad_target` on top at the target.

    For a likelihood the two nearly cancel there: what they leave is minus the probability of all other tokens, so
    that is what is summed. With p[target] rounded to bfloat16 first no gradient would be left from p = 0.999 on.
    """
    p_MV.scatter_(1, target_M[:, None], 0.0)
    own_M = grad_lse_M + grad_target_M - grad_lse_M * p_MV.sum(1)
    p_MV.mul_(grad_lse_M[:, None]).scatter_(1, target_M[:, None], own_M[:, None])


def _worth_computing(grad_N: Tensor) -> Tensor:
    """Positions to go back through: those with a gradient; on a device all, or the host would wait to hear which."""
    if grad_N.device.type == "cpu":
        return grad_N.nonzero().squeeze(1)
    return torch.arange(len(grad_N), device=grad_N.device)


def _add_rows(grad_ND: Tensor, head: Head, token_N: Tensor, grad_N: Tensor | None, logit_N: Tensor) -> None:
    """Add `grad * slope * weight[token]` where the gradient is not zero: satisfied positions cost nothing."""
    if grad_N is None:
        return
    active_M = _worth_computing(grad_N)
    pull_M = grad_N[active_M] * head.slope(logit_N[active_M])
    grad_ND[active_M] += pull_M[:, None] * head.weight_VD[token_N[active_M]].float()
