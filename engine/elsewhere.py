"""A soft prompt, or a checkpoint, that is in another process's keeping.

Owns: what can be said of it without having it. Must not know: where it lies, how it comes here.

K soft-prompt vectors, D hidden size.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Elsewhere:
    """Stands for a prompt in the records that a driver moves about.

    Attributes:
        shape: (K, D).
        index: which of the prompts at its place it is.
        place: where it lies, for those who put it there; None until that is known.
    """

    shape: tuple[int, int]
    index: int
    place: Any = None

    def __len__(self) -> int:
        """K, as of a tensor."""
        return self.shape[0]

    @property
    def num_bytes(self) -> int:
        """Of the prompt, in float32."""
        return 4 * self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class StateElsewhere:
    """Stands for a checkpoint's bytes.

    Attributes:
        size: bytes.
        index, place: as of `Elsewhere`.
    """

    size: int
    index: int
    place: Any = None

    def __len__(self) -> int:
        """As of bytes."""
        return self.size
