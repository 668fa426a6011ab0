"""The certificates: what a teacher-forced pass proves about free-running decoding, greedy and with beams.

Owns: the verdict on one text from its margins and cross-entropies. Must not know: losses, optimisers.

**Greedy.** In one set of numerics greedy decoding emits the target exactly if and only if the target is the strict
argmax at every position under the true prefix, first and end-of-text token included (induction over t).

**Beams.** Let p_t be the probability of target token t under the true prefix, n_t = -log p_t, N_t the sum of n_s over
s >= t, so that the target's log-probability is -N_0. A text that first differs from the target at t shares what comes
before and spends at most 1 - p_t there, so it lies at least

    slack_t = -log(1 - p_t) - N_t        nats

below the target, however it goes on. Where the smallest slack is positive the target is likelier than every text that
differs from it anywhere, finished or not, and so is each of its own prefixes: a beam search of any width ranks them
first at every step, and exact search finds nothing likelier.
Scores divided by length ** alpha: `Certificate.lead`. What is not proved (a search that stops as soon as `width` texts
are finished; tokens after the last one of a text that does not end): docs/decisions/0015.
Source: ours, docs/decisions/0001 and 0015; related, on exact search: Stahlberg & Byrne 2019, 1908.10090.

T target tokens.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROUNDING_NATS = 1e-5
"""Added to every token's cross-entropy before a slack is computed: what float32 may have taken off a log-sum-exp of up
to 80. A slack is then a lower bound, and stays finite where a probability rounds to 1."""


class Certificate(NamedTuple):
    """What one pass says about one text.

    Attributes:
        min_margin: smallest margin over the T positions, logits. A tie is 0 and certifies nothing.
        first_mismatch: index of the first position whose margin is not positive; T if there is none.
        num_tokens: T.
        mean_nats: mean cross-entropy of the measured positions under teacher forcing: what published work watches.
        accuracy: share of the measured positions that are right under teacher forcing.
        log_prob: of the whole text, nats: plain sampling says it with probability `exp(log_prob)`. A lower bound by
            at most `ROUNDING_NATS` a token; NaN where only a prefix was measured.
        slack: every text that differs is at least so much less likely, nats; positive is the certificate for beams.
            NaN where only a prefix was measured.
    """

    min_margin: float
    first_mismatch: int
    num_tokens: int
    mean_nats: float = float("nan")
    accuracy: float = float("nan")
    log_prob: float = float("nan")
    slack: float = float("nan")

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding emits the target, in the numerics that were measured."""
        return self.first_mismatch == self.num_tokens

    def lead(self, overrun: int) -> float:
        """What is left of the slack where scores may be divided by length, nats; positive is a certificate.

            slack - (overrun / T) * N_0

        With N_0 = -log_prob, a finished text of m tokens scores at most -(N_0 + slack) / m ** alpha, the target
        -N_0 / T ** alpha. For 0 <= alpha <= 1 and m <= T + overrun the target wins wherever this is positive.
        The smallest margin is never below it: the target's log-odds at t are slack_t + N_(t+1) or more.

        Args:
            overrun: tokens that the search may decode past the target; 0 where the target does not end.
        """
        return self.slack + self.log_prob * overrun / self.num_tokens


def slacks(nll_BT: Float[Tensor, "*B T"], is_token_BT: Bool[Tensor, "*B T"] | None = None) -> Float[Tensor, "*B T"]:
    """`-log(1 - p_t) - N_t` of every position of a text, nats, as a lower bound; differentiable.

    Rises with every token's log-odds d: `-log(1 - p) = softplus(d)` and `-log p = softplus(-d)`.

    Args:
        nll_BT: cross-entropies of the target's tokens, nats.
        is_token_BT: false on padding, where what is returned means nothing; None is no padding.
    """
    nll_BT = nll_BT.clamp_min(0) + ROUNDING_NATS
    spent_BT = nll_BT
    if is_token_BT is not None:
        spent_BT, nll_BT = (torch.where(is_token_BT, nll_BT, padding) for padding in (0.0, 1.0))
    return -torch.log(-torch.expm1(-nll_BT)) - spent_BT.flip(-1).cumsum(-1).flip(-1)


def certify(
    margin_T: Float[Tensor, "T"], nll_T: Float[Tensor, "T"] | None = None, *, num_tokens: int | None = None
) -> Certificate:
    """Certificate of one text. NaN is a mismatch.

    Args:
        margin_T: margins of the measured positions, logits.
        nll_T: their cross-entropies, nats.
        num_tokens: length of the text where only a prefix was measured: such a certificate is never greedy.
    """
    nll_T = torch.full_like(margin_T, float("nan")) if nll_T is None else nll_T
    is_measured_1T = torch.ones_like(margin_T, dtype=torch.bool)[None]
    return certify_all(margin_T[None], nll_T[None], is_measured_1T, [num_tokens or len(margin_T)])[0]


def certify_all(
    margin_BT: Float[Tensor, "B T"], nll_BT: Float[Tensor, "B T"], is_measured_BT: Bool[Tensor, "B T"],
    num_tokens: Sequence[int],
) -> list[Certificate]:  # fmt: skip
    """`certify` for many texts at once.

    Args:
        margin_BT: margins, logits, on the CPU.
        nll_BT: cross-entropies, nats.
        is_measured_BT: false on padding, on the right.
        num_tokens: length of each text; what is measured may be a prefix.
    """
    nll_BT = nll_BT.double()
    is_right_BT = (margin_BT > 0) & is_measured_BT
    measured_B = is_measured_BT.sum(1)
    columns = (
        torch.where(is_measured_BT, margin_BT, float("inf")).amin(1),
        is_right_BT.cummin(1).values.sum(1),
        measured_B,
        torch.where(is_measured_BT, nll_BT, 0.0).sum(1) / measured_B,
        is_right_BT.sum(1),
        torch.where(is_measured_BT, nll_BT.clamp_min(0) + ROUNDING_NATS, 0.0).sum(1),
        torch.where(is_measured_BT, slacks(nll_BT, is_measured_BT), float("inf")).amin(1),
    )
    rows = zip(*(column.tolist() for column in columns), num_tokens, strict=True)
    return [
        Certificate(
            margin, first, total, nats, num_right / measured,
            log_prob=-spent if measured == total else math.nan, slack=slack if measured == total else math.nan,
        )
        for margin, first, measured, nats, num_right, spent, slack, total in rows
    ]  # fmt: skip
