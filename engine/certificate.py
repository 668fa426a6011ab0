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
    """

    min_margin: float
    first_mismatch: int
    num_tokens: int

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding emits the target, in the numerics that were measured."""
        return self.first_mismatch == self.num_tokens

    def is_better_than(self, other: "Certificate | None") -> bool:
        """Larger smallest margin wins."""
        return other is None or self.min_margin > other.min_margin


def certify(margin_T: Float[Tensor, "T"]) -> Certificate:
    """Certificate of one text from its margins in logits, (T,). NaN is a mismatch."""
    margins = margin_T.tolist()
    first = next((t for t, margin in enumerate(margins) if not margin > 0), len(margins))
    worst = min(margins) if all(margin == margin for margin in margins) else float("nan")
    return Certificate(worst, first, len(margins))
