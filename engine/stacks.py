"""What is trained of many slots, as few tensors: rows of one width one after the other.

Owns: which rows are whose, the leaves of a pass. Must not know: losses, steps, the model's body.

A direct soft prompt is K rows of width D, so all of a pass's prompts are one tensor: read as it is, and its gradient
comes back as it is stepped. R rows of one width W, B slots.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engine.layout import to_device
from engine.slots import Slot


class Entry(NamedTuple):
    """One trained tensor of the slot at `row` of the pass."""

    row: int
    slot: Slot
    name: str
    shape: torch.Size


class Stack:
    """The trained tensors of one width.

    Attributes:
        value_RW: all of them, a leaf that takes a gradient.
        sizes: rows of each entry.
    """

    def __init__(self, entries: list[Entry], width: int):
        self.entries, self.width = entries, width
        self.sizes = [max(1, entry.shape.numel() // width) for entry in entries]
        self.value_RW = self.gathered("trained").requires_grad_()
        self.device = self.value_RW.device

    def gathered(self, name: str) -> Float[Tensor, "R W"]:
        """A slot's dictionary of tensors, `trained`, `mean` or `square`, of all entries."""
        tensors = (getattr(entry.slot, name)[entry.name] for entry in self.entries)
        return torch.cat([t if t.dim() == 2 else t.reshape(-1, self.width) for t in tensors])

    @property
    def is_prompts(self) -> bool:
        """Whether this is the soft prompts of all slots of the pass and nothing else."""
        return all(entry.slot.is_direct and entry.name == "prompt" for entry in self.entries)

    def tensors(self) -> Iterator[tuple[Entry, Tensor]]:
        """Every entry's own part of the leaf, in its own shape."""
        parts = self.value_RW.split(self.sizes)
        return ((entry, part.reshape(entry.shape)) for entry, part in zip(self.entries, parts, strict=True))

    @cached_property
    def slot_R(self) -> Tensor:
        """Row of the pass whose slot each row of the stack is of."""
        return to_device(np.repeat([entry.row for entry in self.entries], self.sizes), self.device)

    def columns(self, numbers: list[list[float]]) -> tuple[Tensor, ...]:
        """Columns (R, 1), float32, of numbers that each entry has: one list an entry."""
        host = np.repeat(np.asarray(numbers, dtype=np.float32), self.sizes, axis=0)
        return to_device(host, self.device).split(1, dim=1)

    def by_slot(self, value_R: Float[Tensor, "R"], num_slots: int) -> Float[Tensor, "B"]:
        """Sums over each slot's rows."""
        return value_R.new_zeros(num_slots).index_add(0, self.slot_R, value_R)

    def parts(self, *stacked: Float[Tensor, "R W"]) -> Iterator[tuple[Entry, tuple[Tensor, ...]]]:
        """Every entry's own copies: a view would keep the whole stack for as long as one slot's prompt is kept."""
        split = [torch.split_with_sizes_copy(tensor, self.sizes) for tensor in stacked]
        for entry, *parts in zip(self.entries, *split, strict=True):
            yield entry, tuple(part if len(entry.shape) == 2 else part.reshape(entry.shape) for part in parts)


def stacks_of(slots: list[Slot]) -> list[Stack]:
    """Everything that these slots train, by width."""
    by_width: dict[int, list[Entry]] = {}
    for row, slot in enumerate(slots):
        for name, tensor in slot.trained.items():
            by_width.setdefault(tensor.shape[-1] if tensor.dim() else 1, []).append(
                Entry(row, slot, name, tensor.shape)
            )
    return [Stack(entries, width) for width, entries in by_width.items()]
