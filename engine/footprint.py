"""What a model takes up, before any of it is loaded.

Owns: parameters, bytes of weights, of a KV cache and of training, from the configuration and the sizes of the weight
files alone. Must not know: cards, machines, what shares them.

L layers, D hidden size, H attention heads, G key and value heads, h head size, I width of the feed-forward block.
Estimates are on the side of too much where a family differs from a plain decoder: every layer of a model with sliding
windows or recurrent layers is counted as one that attends to everything, and a mixture of experts as its active ones.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from engine.frozen_lm import DTYPES, TokenRule
from engine.loading import from_pretrained, load_skeleton, local_folder
from engine.model_source import ModelSource

FLOAT32_BYTES = 4

CONVOLVED = 4
"""Positions that a recurrent layer's convolution remembers, in all families known here."""


@dataclass(frozen=True)
class Footprint:
    """Sizes of one model.

    Attributes:
        config: of the text model.
        num_parameters: tied ones counted once.
        context: positions the model can read.
        file_bytes: of its weight files; None for a model that is not on this machine yet.
        norm_width: numbers that the normalisations of one layer take in, for one position.
        is_quantised: whether the weights are stored in fewer bits than their numerics have.
    """

    config: Any
    num_parameters: int
    context: int
    file_bytes: int | None
    norm_width: int
    is_quantised: bool = False

    @classmethod
    def of(cls, source: ModelSource, context: int | None = None) -> "Footprint":
        """Look at a model's configuration and at the names and sizes of its weight files.

        Args:
            context: where the caller knows it already; a tokenizer is read otherwise.
        Raises:
            ModelError: no configuration, or not of a causal language model.
        """
        skeleton = load_skeleton(source)
        context = context or TokenRule.of(from_pretrained(AutoTokenizer, source), skeleton).context
        file_bytes = sum(file.stat().st_size for file in weight_files(source)) or None
        return cls.of_skeleton(skeleton, context, file_bytes)

    @classmethod
    def of_skeleton(cls, model: Any, context: int, file_bytes: int | None = None) -> "Footprint":
        """Look at a transformers model that may be without numbers."""
        config = model.config.get_text_config()
        return cls(
            config,
            num_parameters=sum(weight.numel() for weight in model.parameters()),
            context=context,
            file_bytes=file_bytes,
            norm_width=_norm_width(model, config),
            is_quantised=getattr(model.config, "quantization_config", None) is not None,
        )

    def weights_bytes(self, dtype: str) -> int:
        """Bytes of the resident weights, `dtype` as in `DTYPES`; those of a quantised model are their files'."""
        if self.is_quantised and self.file_bytes is not None:
            return self.file_bytes
        return self.num_parameters * DTYPES[dtype].itemsize

    def kv_bytes_a_position(self, dtype: str) -> int:
        """Bytes that the key-value cache of a decoding engine takes for one position of one text.

        itemsize * L * 2 G h      or, with multi-head latent attention,      itemsize * L * (latent + rope)
        """
        latent = _number(self.config, "kv_lora_rank")
        width = latent + _number(self.config, "qk_rope_head_dim") if latent else 2 * self._groups * self._head_size
        return DTYPES[dtype].itemsize * _layers(self.config) * width

    @property
    def state_bytes(self) -> int:
        """Bytes that the recurrent layers of a decoding engine take for one text of any length, kept in float32."""
        return FLOAT32_BYTES * _layers(self.config) * _state_width(self.config)

    def training_bytes_a_position(self, dtype: str, length: int = 0) -> int:
        """Bytes that one position holds between the forward and the backward pass through the frozen model.

            (L + 1) * layer_bytes_a_position

        The layer that is gone through backward has its gradients beside what all layers keep, hence L + 1.

        Args:
            length: positions of a text; they matter where attention is not fused and keeps its weights.
        """
        return (_layers(self.config) + 1) * self.layer_bytes_a_position(dtype, length)

    def recomputed_bytes_a_position(self, dtype: str, length: int = 0) -> int:
        """The same where layers compute again in backward what they need (`engine.recomputation`).

            L D itemsize + 2 * layer_bytes_a_position

        What each layer reads is kept; the layer that is gone through backward has its own and its gradients.
        """
        read = _layers(self.config) * self._hidden * DTYPES[dtype].itemsize
        return read + 2 * self.layer_bytes_a_position(dtype, length)

    def layer_bytes_a_position(self, dtype: str, length: int = 0) -> int:
        """Bytes that one layer keeps of one position for the backward pass; a forward pass alone has no more at once.

            4 norms + itemsize * (2 H h + 2 G h + c I)

        Frozen weights have no gradient, so a projection keeps nothing of what it reads. What stays is the float32
        input of each normalisation; queries, keys, values and what attention gives; and in the feed-forward block
        the gate, its activation and what it is multiplied with (c = 3; activations written out in Python keep more).

        Source: what autograd saves in transformers 5.19, counted tensor by tensor, 2026-11-25.
        """
        itemsize = DTYPES[dtype].itemsize
        attention = 2 * self._heads * self._head_size + 2 * self._groups * self._head_size
        numbers = attention + self._feed_forward_copies * self._feed_forward_width
        layer = FLOAT32_BYTES * self.norm_width + itemsize * numbers
        if _number(self.config, "attn_logit_softcapping"):
            # No fused kernel has a softcap: the capped scores, their float32 softmax and that rounded are kept.
            layer += self._heads * length * (FLOAT32_BYTES + 2 * itemsize)
        return layer

    @property
    def original_context(self) -> int | None:
        """Positions up to which a model with long-rope reads with its short factors; None for all others.

        vLLM takes the long factors for every text once it is started with more, so that is another model.
        """
        rules = getattr(self.config, "rope_parameters", None) or {}
        kinds = [rules, *(rule for rule in rules.values() if isinstance(rule, dict))]
        if not any(kind.get("rope_type") in ("longrope", "su") for kind in kinds):
            return None
        stated = max(int(kind.get("original_max_position_embeddings") or 0) for kind in kinds)
        return stated or _number(self.config, "original_max_position_embeddings") or None

    @property
    def embedding_bytes(self) -> int:
        """Of the embedding in float32: what is held for a moment when it is measured at the load."""
        return FLOAT32_BYTES * _number(self.config, "vocab_size") * self._hidden

    @property
    def _heads(self) -> int:
        return _number(self.config, "num_attention_heads", "num_heads") or 1

    @property
    def _groups(self) -> int:
        """Key and value heads: all of them in latent attention, which spreads its latents out to train."""
        if _number(self.config, "kv_lora_rank"):
            return self._heads
        return _number(self.config, "num_key_value_heads", "num_kv_heads") or self._heads

    @cached_property
    def _head_size(self) -> int:
        names = ("head_dim", "v_head_dim", "kv_channels", "global_head_dim")
        widest = max(_number(self.config, name) for name in names)
        latent = _number(self.config, "qk_nope_head_dim") + _number(self.config, "qk_rope_head_dim")
        return max(widest, latent) or self._hidden // self._heads

    @property
    def _hidden(self) -> int:
        return _number(self.config, "hidden_size")

    @property
    def _feed_forward_width(self) -> int:
        dense = _number(
            self.config, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "intermediate_size_mlp"
        )
        active = _number(self.config, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k")
        expert = _number(self.config, "moe_intermediate_size", "expert_ffn_hidden_size") or dense
        shared = _number(self.config, "shared_expert_intermediate_size", "shared_intermediate_size")
        shared = shared or expert * _number(self.config, "n_shared_experts", "num_shared_experts")
        return max(dense or 4 * self._hidden, active * expert + shared)

    @property
    def _feed_forward_copies(self) -> int:
        activation = str(getattr(self.config, "hidden_act", None) or getattr(self.config, "activation_function", ""))
        return 5 if activation in ("gelu_new", "gelu_fast", "gelu_python") else 3


def _number(config: Any, *names: str) -> int:
    """The first of these that the configuration has as a number; the largest where layers differ; 0 if none."""
    return next((max(found) for name in names if any(found := numbers_of(config, name))), 0)


def numbers_of(config: Any, name: str) -> list[int]:
    """What a configuration says under a name as numbers: one for all layers, or one a layer."""
    try:
        value = getattr(config, name, None)
    except RuntimeError:  # transformers refuses to name one where layers differ (Gemma 4)
        value = [getattr(layer, name, None) for layer in config.per_layer_config]
    return [int(n) for n in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(n, (int, float))]


def _layers(config: Any) -> int:
    return _number(config, "num_hidden_layers", "num_layers")


def _state_width(config: Any) -> int:
    """Numbers of one recurrent layer's state, its convolution's among them; 0 where there are none."""
    if heads := _number(config, "linear_num_value_heads"):
        keys, values = _number(config, "linear_key_head_dim"), _number(config, "linear_value_head_dim")
        return heads * (keys * values + CONVOLVED * (2 * keys + values))
    states = _number(config, "mamba_d_state", "ssm_state_size", "state_size")
    if not states:
        return CONVOLVED * _number(config, "hidden_size") if hasattr(config, "conv_L_cache") else 0
    inner = _number(config, "mamba_d_ssm") or (
        (_number(config, "mamba_expand", "expand") or 2) * _number(config, "hidden_size")
    )
    return inner * states + CONVOLVED * (inner + 2 * states * (_number(config, "mamba_n_groups", "n_groups") or 1))


def _norm_width(model: Any, config: Any) -> int:
    """Numbers that the normalisations of one layer take in, on average; those on heads take in all heads."""
    heads, head_size = _number(config, "num_attention_heads"), _number(config, "head_dim")
    sizes = [
        module.weight.numel() for module in model.modules() if "Norm" in type(module).__name__ and _has_weight(module)
    ]
    return sum(size * (heads if size == head_size else 1) for size in sizes) // max(1, _layers(config))


def _has_weight(module: torch.nn.Module) -> bool:
    return isinstance(getattr(module, "weight", None), torch.Tensor)


def weight_files(source: ModelSource) -> list[Path]:
    """The weight files that are on this machine, in the model's folder or in the hub's cache."""
    folder = local_folder(source)
    return sorted(folder.glob("*.safetensors")) if folder else []
