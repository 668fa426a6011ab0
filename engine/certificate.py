"""The greedy certificate: what a teacher-forced pass proves about free-running greedy decoding.

Owns: the verdict on one text from its margins. Must not know: losses, optimisers.

In one set of numerics greedy decoding emits the target exactly if and only if the target is the strict argmax at every
position under the true prefix, first and end-of-text token included (induction over t).
Source: ours, docs/decisions/0001.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Certificate(NamedTuple):
    """What one pass says about one text.

    Attributes:
        min_margin: smallest margin over the T positions, logits. A tie is 0 and certifies nothing.
        first_mismatch: index of the first position whose margin is not positive; T if there is none.
        num_tokens: T.
        mean_nats: mean cross-entropy of the measured positions under teacher forcing: what published work watches.
        accuracy: share of the measured positions that are right under teacher forcing.
    """

    min_margin: float
    first_mismatch: int
    num_tokens: int
    mean_nats: float = float("nan")
    accuracy: float = float("nan")

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding emits the target, in the numerics that were measured."""
        return self.first_mismatch == self.num_tokens


def certify(
    margin_T: Float[Tensor, "T"], nll_T: Float[Tensor, "T"] | None = None, *, num_tokens: int | None = None
) -> Certificate:
    """Certificate of one text. NaN is a mismatch.

    Args:
        margin_T: margins of the measured positions, logits.
        nll_T: their cross-entropies, nats.
        num_tokens: length of the text where only a prefix was measured: such a certificate is never greedy.
    """
    margins = margin_T.tolist()
    wrong = [t for t, margin in enumerate(margins) if not margin > 0]
    worst = min(margins) if all(margin == margin for margin in margins) else float("nan")
    return Certificate(
        worst,
        wrong[0] if wrong else len(margins),
        num_tokens or len(margins),
        mean_nats=float("nan") if nll_T is None else float(nll_T.mean()),
        accuracy=(len(margins) - len(wrong)) / len(margins),
    )
