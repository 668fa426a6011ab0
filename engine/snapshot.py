"""The best measurement of a slot, kept together with the very prompt it was made on.

Owns: that record, how the parts of a state reach another device. Must not know: slots, steps.

K soft-prompt vectors, D hidden size.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from engine.certificate import Certificate


@dataclass(frozen=True)
class Snapshot:
    """The best measurement so far, the very prompt it was made on, and the prefix it was made over."""

    prompt_KD: Tensor
    certificate: Certificate
    window: int


def on_device(device: torch.device, value: Any) -> Any:
    """The value with its tensors on the device; dicts are the caller's own."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Snapshot):
        return replace(value, prompt_KD=value.prompt_KD.to(device))
    if isinstance(value, dict):
        return {name: on_device(device, item) for name, item in value.items()}
    return value
