"""Tiny configurations of every causal family: what makes a model small, and what a family needs besides.

Owns: sizes by the names of settings. Must not know: what is done with the models.
"""

import re
from typing import Any

LAYERS = r"num_hidden_layers|n_layers?|num_layers|num_decoder_layers|decoder_layers|num_blocks"

SHRINK: dict[str, Any] = {
    r"vocab_size(_per_layer_input)?|n_words|n_tokens": 257,
    r"hidden_size|d_model|n_embd|embed_dim|word_embed_proj_dim": 128,
    r"attention_hidden_size|embedding_size|lru_width|emb_dim": 128,
    LAYERS: 2,
    r"num_attention_heads|n_heads?|num_heads|decoder_attention_heads|attention_heads|linear_num_value_heads": 4,
    r"num_key_value_heads|num_kv_heads|linear_num_key_heads": 2,
    r"head_dim|attention_head_dim|d_kv|v_head_dim|global_head_dim": 32,
    r"intermediate_size|ffn_dim|d_ff|decoder_ffn_dim": 256,
    r"ffn_hidden_size|intermediate_size_mlp|shared_intermediate_size": 256,
    r"moe_intermediate_size|shared_expert_intermediate_size": 64,
    r"expert_ffn_hidden_size|moe_shared_expert_intermediate_size": 64,
    r"num_experts|num_local_experts|n_routed_experts|moe_num_experts": 4,
    r"num_experts_per_tok|moe_topk|top_k_experts|num_experts_per_token|moe_k": 2,
    r"n_group|topk_group|num_expert_groups": 1,
    r"max_position_embeddings|n_positions|max_seq_len|n_ctx|context_length|max_target_positions|seq_length": 64,
    r"q_lora_rank|kv_lora_rank": 32,
    r"qk_rope_head_dim|qk_nope_head_dim|linear_key_head_dim|linear_value_head_dim|hidden_size_per_layer_input": 16,
    r"sliding_window|window_size|attention_window_size|local_attention": 8,
    r"state_size|mamba_d_state|ssm_state_size": 16,
    r"first_k_dense_replace|num_dense_layers": 1,
    r"rotary_dim|laurel_rank|time_step_rank|mamba_dt_rank": 8,
    r"chunk_size|mamba_chunk_size": 8,
    r"num_kv_shared_layers|num_nextn_predict_layers": 0,
}
"""Sizes by name (a whole-name pattern), where a configuration has them as numbers."""

ROPE = {"rope_theta": 10000.0, "original_max_position_embeddings": 16}
LONG = ROPE | {"rope_type": "longrope", "short_factor": [1.0] * 16, "long_factor": [4.0] * 16}

MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 32, "mamba_n_groups": 1}

EXTRA: dict[str, dict[str, Any]] = {
    **{name: {"is_decoder": True} for name in ("bert", "big_bird", "electra", "ernie", "megatron-bert", "rembert")},
    **{name: {"is_decoder": True, "pad_token_id": 0} for name in (
        "camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod")},
    "bert-generation": {"is_decoder": True}, "cwm": {"bos_token_id": 0},
    "axk1": {"head_dim": 16, "num_key_value_heads": 4},
    **{name: {"num_key_value_heads": 4} for name in ("axk2", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa")},
    "deepseek_v2": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "mamba2": {"num_heads": 8, "head_dim": 32, "n_groups": 1}, "gptj": {"rotary_dim": 16},
    "codegen": {"rotary_dim": 16},
    "deepseek_v3": {"q_lora_rank": 32, "num_key_value_heads": 4, "head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "local"]},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_n_groups": 1},
    **{name: {"head_dim": 32} for name in ("ministral", "hunyuan_v1_dense", "hunyuan_v1_moe")},
    "bamba": MAMBA | {"attn_layer_indices": [1]},
    "granitemoehybrid": MAMBA | {"layer_types": ["mamba", "attention"]},
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]}, "laguna": {"num_attention_heads_per_layer": [4, 4]},
    "gemma3n_text": {"intermediate_size": [256, 256], "activation_sparsity_pattern": [0.0, 0.0], "pad_token_id": 0},
    "modernbert-decoder": {"pad_token_id": 0, "bos_token_id": 0}, "zaya": {"num_experts_per_tok": 1},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 32}, "xlnet": {"d_head": 32},
}  # fmt: skip
"""What a family needs besides."""

PARTS: dict[str, Any] = {
    r"image_size": 28,
    r"patch_size": 14,
    r"depth|num_global_layers|max_num_tiles": 1,
    r"output_dim|out_hidden_size|vision_output_dim|projector_(in|out)put_dim|projection_dim": 128,
    r"(?!eos).*_token_(id|index)": 200,
}
"""Sizes of what reads pictures or sound beside a language part, and tokens that stand for them."""


WRAPPED: dict[str, dict[str, Any]] = {
    **{name: {"pad_token_id": 0} for name in ("gemma3", "gemma4", "gemma4_unified")},
    **{name: {"bos_token_id": 0, "pad_token_id": 0} for name in ("emu3", "mllama")},
    **{name: {"layer_types": ["linear_attention", "full_attention"]} for name in ("qwen3_5", "qwen3_5_moe")},
    "llama4": {"attention_chunk_size": 8, "no_rope_layers": [1, 0], "layer_types": None, "moe_layers": None},
}
"""What the language part of a larger model needs besides."""


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, YaRN": ("llama", {"rope_parameters": ROPE | {"rope_type": "yarn", "factor": 4.0}}),
    "llama, dynamic NTK": ("llama", {"rope_parameters": ROPE | {"rope_type": "dynamic", "factor": 4.0}}),
    "llama, linear rope": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "llama, llama3 rope": ("llama", {"rope_parameters": ROPE | {
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}}),
    "phi3, long-rope": ("phi3", {"original_max_position_embeddings": 16, "rope_parameters": LONG}),
    "mistral, window 8": ("mistral", {"sliding_window": 8}),
    "gemma2, attention cap 5": ("gemma2", {"attn_logit_softcapping": 5.0}),
    "opt, post-norm": ("opt", {"do_layer_norm_before": False}),
    "falcon, ALiBi": ("falcon", {"alibi": True}),
    "granitemoehybrid, attention": ("granitemoehybrid", {"layer_types": ["attention", "attention"]}),
}  # fmt: skip
"""Beside a family's own defaults: what changes how positions or masks are read."""


def config_of(name: str) -> Any:
    """A tiny configuration of a family or variant."""
    from transformers import AutoConfig

    family, more = VARIANTS.get(name, (name, {}))
    values = shrunk(AutoConfig.for_model(family).to_dict())
    if "text_config" in values:
        values["text_config"] |= WRAPPED.get(family, {})
    for key in ("model_type", "transformers_version", "architectures"):
        values.pop(key, None)
    return AutoConfig.for_model(family, **(values | EXTRA.get(family, {}) | more))


def shrunk(values: dict[str, Any], sizes: dict[str, Any] = SHRINK) -> dict[str, Any]:
    """Settings of a configuration, those of its parts among them, shrunk where they are sizes."""
    parts = {}
    if "text_config" in values:
        sizes = SHRINK | PARTS
        parts = {key: shrunk(value, sizes) for key, value in values.items() if key.endswith("_config") and value}
    values = {key: small(value, key, sizes) for key, value in values.items()}
    layers = next((v for k, v in values.items() if re.fullmatch(LAYERS, k)), 2)
    values = {k: v[:layers] if k.endswith("layer_types") and isinstance(v, list) else v for k, v in values.items()}
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
    values.pop("per_layer_config", None)
    return values | ends | parts


def small(value: Any, key: str, sizes: dict[str, Any]) -> Any:
    """One setting, shrunk if it is a size."""
    for pattern, size in sizes.items():
        if re.fullmatch(pattern, key) and isinstance(value, int) and not isinstance(value, bool):
            return size
    return value
