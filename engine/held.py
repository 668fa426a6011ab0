"""Prompts that are here, and those that may be elsewhere.

Owns: what records do with either. Must not know: where a prompt lies that is not here.
"""

from typing import Any

import torch
from torch import Tensor

from engine.elsewhere import Elsewhere


def held(prompt_KD: Tensor | Elsewhere) -> Tensor:
    """A prompt that is here."""
    assert not isinstance(prompt_KD, Elsewhere), "the prompt is elsewhere"
    return prompt_KD


def as_stored(prompt_KD: Tensor | Elsewhere) -> Any:
    """A prompt as a numpy array over the same memory, or where it lies."""
    return prompt_KD if isinstance(prompt_KD, Elsewhere) else prompt_KD.numpy()


def from_stored(stored: Any) -> Tensor | Elsewhere:
    """The same back; a copy, since the array may be a view of a whole message, which it would keep in memory."""
    return stored if isinstance(stored, Elsewhere) else torch.tensor(stored)
