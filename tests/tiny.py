"""Tiny random models of several families, and a byte tokenizer, built in code and saved where a test wants them.

Owns: the smallest models that behave like real ones. Must not know: solvers, verifiers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    Llama4Config,
    Llama4TextConfig,
    Llama4VisionConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    SiglipVisionConfig,
)

END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 257
"""All bytes and the end-of-text token; a prime."""

HIDDEN_SIZE, CONTEXT = 128, 64

INITIALIZER_RANGE = 0.2
"""Ten times the usual: at 0.02 attention is too weak for a random model to be steered by its prompt."""

_COMMON: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "bos_token_id": None, "eos_token_id": 0}
_ROPE = _COMMON | {
    "hidden_size": HIDDEN_SIZE,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": CONTEXT,
    "initializer_range": INITIALIZER_RANGE,
}
_GROUPED = _ROPE | {"num_key_value_heads": 2, "head_dim": 32}

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_GROUPED, tie_word_embeddings=True),
    "gpt2": lambda: GPT2Config(
        **_COMMON, n_embd=HIDDEN_SIZE, n_layer=2, n_head=4, n_positions=CONTEXT, initializer_range=INITIALIZER_RANGE
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**_ROPE),
    "gemma": lambda: GemmaConfig(**_GROUPED, pad_token_id=None),
    "gemma2": lambda: Gemma2Config(**_GROUPED, pad_token_id=None, sliding_window=8, final_logit_softcapping=30.0),
}

NARROW: dict[str, Callable[[], Any]] = {
    "opt": lambda: OPTConfig(
        **_COMMON,
        hidden_size=HIDDEN_SIZE,
        word_embed_proj_dim=HIDDEN_SIZE // 2,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=256,
        max_position_embeddings=CONTEXT,
        do_layer_norm_before=False,
        pad_token_id=None,
    )
}
"""Families whose embeddings are narrower than their hidden states, as OPT-350m's."""

_EYES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}

PICTURES: dict[str, Callable[[], Any]] = {
    "gemma3, pictures": lambda: Gemma3Config(
        text_config=Gemma3TextConfig(**_GROUPED, pad_token_id=0, sliding_window=8),
        vision_config=SiglipVisionConfig(**_EYES, image_size=28, patch_size=14),
    ),
    "llama4, pictures": lambda: Llama4Config(
        text_config=Llama4TextConfig(
            **_GROUPED, pad_token_id=None, intermediate_size_mlp=256, num_local_experts=3, interleave_moe_layer_step=2
        ),
        vision_config=Llama4VisionConfig(
            **_EYES, image_size=28, patch_size=14, vision_output_dim=16, projector_input_dim=16, projector_output_dim=16
        ),
    ),
}
"""Checkpoints whose language part is what counts: transformers loads the first whole, of the second that part alone."""


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, the end-of-text token first."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([END_OF_TEXT, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    )


def save_tiny(family: str, folder: Path, *, seed: int = 0) -> Path:
    """A random model of a family with its tokenizer, in the layout `from_pretrained` reads.

    Every parameter is random, biases and norms too, so that a rule that forgets one gives other numbers.
    """
    whole: Any = AutoModelForImageTextToText if family in PICTURES else AutoModelForCausalLM
    model = whole.from_config((FAMILIES | NARROW | PICTURES)[family]())
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator) * INITIALIZER_RANGE
        keeps_mean = weight.dim() == 1 and not name.endswith("bias")
        weight.data = noise + (weight.data if keeps_mean else 0)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
