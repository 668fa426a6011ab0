"""How many positions a model reads, by its configuration and its tokenizer.

Owns: the names that configurations give it. Must not know: models.
"""

from typing import Any

from transformers import PreTrainedTokenizerBase

UNKNOWN_CONTEXT = 2048
"""Positions of a model that says nowhere how many it reads (BLOOM, Mamba). Source: vLLM's own assumption then,
`_get_and_verify_max_len`; nobody's limit, but both engines read as far."""

CONTEXT_NAMES = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len", "context_length",
)  # fmt: skip
"""What configurations call their context; the smallest counts, as in vLLM. Source: vLLM's `possible_keys`; RWKV's."""

NO_CONTEXT = 10**9
"""From here on a context is a word for "none": tokenizers say 1e30. Assumption; the longest in use is 1e7 (Llama 4)."""


def context_of(tokenizer: PreTrainedTokenizerBase, config: Any) -> int:
    """Soft prompt and target together."""
    said = [getattr(config, name, None) for name in CONTEXT_NAMES] + [tokenizer.model_max_length]
    return min(
        [int(length) for length in said if isinstance(length, (int, float)) and 0 < length < NO_CONTEXT]
        or [UNKNOWN_CONTEXT]
    )
