"""Where the rows of several texts lie in one pass: padded side by side, or packed one after the other.

Owns: the one alignment of read positions and targets. Must not know: models, what the rows hold.

Text b reads `[prompt_b, context_b[0] ... context_b[T-2]]`; target token t is predicted by read position K - 1 + t, so
token 0 comes from the last soft-prompt vector and the last context row is never read.

B texts, K soft-prompt vectors, T target tokens, S = K + T - 1 read positions of a text, R vectors and N tokens of all
texts together, P positions of the pass, padding included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """B texts in one pass.

    Attributes:
        num_vectors: K of each text.
        num_tokens: T of each, at least 1.
        is_packed: one after the other, without padding; else each in a row of its own, padded on the right.
        device: where its indices are needed.
    """

    num_vectors: tuple[int, ...]
    num_tokens: tuple[int, ...]
    is_packed: bool
    device: torch.device

    @cached_property
    def lengths_B(self) -> np.ndarray:
        """S of each text."""
        return np.asarray(self.num_vectors) + np.asarray(self.num_tokens) - 1

    @property
    def longest(self) -> int:
        return int(self.lengths_B.max())

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and positions of the pass."""
        return (1, int(self.lengths_B.sum())) if self.is_packed else (len(self.lengths_B), self.longest)

    @property
    def num_positions(self) -> int:
        """P: of the whole pass, padding included."""
        rows, positions = self.shape
        return rows * positions

    @cached_property
    def _first_B(self) -> np.ndarray:
        """Where each text begins among the P positions."""
        if self.is_packed:
            return np.cumsum(self.lengths_B) - self.lengths_B
        return np.arange(len(self.lengths_B)) * self.longest

    @cached_property
    def at(self) -> Tensor:
        """Position of every soft-prompt vector, then of every context row, (R + N,); P for rows that are not read."""
        vectors = np.repeat(self._first_B, self.num_vectors) + counted(self.num_vectors)
        tokens = np.repeat(self._first_B + self.num_vectors, self.num_tokens) + counted(self.num_tokens)
        tokens[np.cumsum(self.num_tokens) - 1] = self.num_positions
        return to_device(np.concatenate([vectors, tokens]), self.device)

    @cached_property
    def predicting(self) -> Tensor:
        """Positions that predict the target tokens, (N,)."""
        first_B = self._first_B + np.asarray(self.num_vectors) - 1
        return to_device(np.repeat(first_B, self.num_tokens) + counted(self.num_tokens), self.device)

    @cached_property
    def position_ids(self) -> Tensor:
        """Place of every packed position in its text, (1, P)."""
        return to_device(counted(self.lengths_B), self.device)[None]

    @cached_property
    def bounds(self) -> Tensor:
        """Where the packed texts begin, and where the last one ends, (B + 1,), int32."""
        return to_device(np.concatenate([[0], np.cumsum(self.lengths_B)]).astype(np.int32), self.device)

    @cached_property
    def in_rows(self) -> Tensor:
        """Where each packed position would lie with every text padded in a row of its own, (P,)."""
        first_B = np.arange(len(self.lengths_B)) * self.longest
        return to_device(np.repeat(first_B, self.lengths_B) + counted(self.lengths_B), self.device)

    @cached_property
    def in_tokens(self) -> Tensor:
        """Where each token lies with every text's tokens padded in a row of their own, (N,)."""
        first_B = np.arange(len(self.num_tokens)) * max(self.num_tokens)
        return to_device(np.repeat(first_B, self.num_tokens) + counted(self.num_tokens), self.device)


def counted(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    """0, 1, ... size - 1 for each size, one after the other."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)


def to_device(values: np.ndarray | list[float], device: torch.device) -> Tensor:
    """Numbers from the host, without waiting for the device: int64 and int32 stay, floats become float32."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else torch.tensor(values, dtype=torch.float32)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
