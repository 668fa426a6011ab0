"""Passes too large for memory: each decoder layer keeps what it reads, and backward computes the rest again.

Owns: which layers those are, and for how long. Must not know: prompts, targets, how much memory there is.

What is kept of a position falls from all that every layer needs for its gradient to one row of width D a layer, and
from one layer at a time everything; a step computes 6 instead of 4 floating-point operations a parameter and position.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def layers_of(body: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that transformers knows how to compute again; none in a family that it does not."""
    return [module for module in body.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def recomputed(
    body: torch.nn.Module, inside: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Iterator[None]:
    """Passes through the body that begin within it keep little; their backward may come later.

    transformers' own switch asks for training mode, which would turn dropout on.

    Args:
        inside: what a layer has to be computed within, once more when backward comes to it.
    """
    layers = layers_of(body)
    for layer in layers:
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), inside()),
        )  # fmt: skip
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
