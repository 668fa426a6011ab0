"""Footprints of large models that nobody loads here.

Owns: their configurations and published numbers of parameters. Must not know: cards.
"""

from transformers import LlamaConfig, Qwen3Config

from engine.footprint import Footprint

QWEN3_06B = Footprint(
    Qwen3Config(
        vocab_size=151936, hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, intermediate_size=3072,
    ),
    num_parameters=596_049_920, context=40960, file_bytes=None, norm_width=2 * 1024 + 24 * 128,
)  # fmt: skip

LLAMA_8B = Footprint(
    LlamaConfig(
        vocab_size=128256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, intermediate_size=14336,
    ),
    num_parameters=8_030_261_248, context=131072, file_bytes=None, norm_width=2 * 4096,
)  # fmt: skip

LLAMA_70B = Footprint(
    LlamaConfig(
        vocab_size=128256, hidden_size=8192, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8,
        head_dim=128, intermediate_size=28672,
    ),
    num_parameters=70_553_706_496, context=131072, file_bytes=None, norm_width=2 * 8192,
)  # fmt: skip
