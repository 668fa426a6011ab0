"""Positional frequencies that depend on a text's length, held at those of one length.

Owns: the pin. Must not know: where the length comes from, engines.

Long-rope (Phi-3, Phi-4) has two sets of frequencies and transformers takes the long one as soon as anything in the
batch is longer than the original context: a text's logits then depend on its company, and a cache is filled with the
one and read with the other. vLLM decides once, by `max_model_len`. Pinned to the length that vLLM is started with,
both engines use the same frequencies and a text is read the same alone, in a batch, and token by token.
"""

from copy import deepcopy
from typing import Any

import torch

PINNED = "pinned"
"""A rope type that no rule of transformers' `dynamic_rope_update` acts on."""


@torch.no_grad()
def pin_rope(model: Any, served_length: int | None = None) -> None:
    """Hold every rotary embedding at the frequencies of texts of `served_length` positions, in place.

    Args:
        model: a transformers model, on any device.
        served_length: positions of the longest text that will be read, vLLM's `max_model_len`; None is the model's
            whole context.
    Source: transformers `modeling_rope_utils.dynamic_rope_update`; vllm `Phi3LongRoPEScaledRotaryEmbedding`: long
        factors exactly where max_model_len > original_max_position_embeddings. vLLM's dynamic NTK always has the
        frequencies of `max_position_embeddings`, which are transformers' for every length up to it.
    """
    for rope in model.modules():
        kinds = getattr(rope, "rope_type", None)
        if isinstance(kinds, dict):  # one rule for each kind of layer
            rope.rope_type = {
                layer: _held(rope, kind, served_length, layer_type=layer) for layer, kind in kinds.items()
            }
        elif kinds is not None:
            rope.rope_type = _held(rope, kinds, served_length)


def _held(rope: Any, kind: str, served_length: int | None, **layer: str) -> str:
    """Hold one rule if it moves; the rope type to go on with."""
    if kind != "longrope" and "dynamic" not in kind:
        return kind
    _hold(rope, served_length or int(rope.config.max_position_embeddings), layer)
    return PINNED


def _hold(rope: Any, length: int, layer: dict[str, str]) -> None:
    """Let the module's own rule choose by reading the last of `length` positions, once."""
    device = next(rope.buffers()).device
    rope(torch.zeros(1, device=device), torch.tensor([[length - 1]], device=device), **layer)
    if hasattr(rope, "rope_init_fn"):  # Phi-MoE computes both anew at every pass, and never takes the long factors
        scales = rope.config.rope_parameters
        is_long = length > scales["original_max_position_embeddings"]
        scale = scales["long_mscale" if is_long else "short_mscale"]
        rope.config = deepcopy(rope.config)
        rope.config.rope_parameters |= {"long_mscale": scale, "short_mscale": scale}
        inv_freq, scaling = rope.rope_init_fn(rope.config, device, seq_len=length)
        rope.rope_init_fn = lambda config: (inv_freq, scaling)
