"""What a model takes up, from its configuration alone, against models that are really there."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma4TextConfig, LlamaConfig, Qwen2Config, Qwen3Config

from engine.footprint import Footprint, numbers_of
from engine.model_source import ModelSource
from engine.pocket import PATH
from tests.tiny import CONTEXT, FAMILIES

MIB = 2**20

LARGE = {
    "Llama-3.1-8B": (4.25, 8.03e9, LlamaConfig(
        vocab_size=128256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, intermediate_size=14336)),
    "Qwen2.5-7B": (4.6, 7.62e9, Qwen2Config(
        vocab_size=152064, hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        intermediate_size=18944)),
    "Qwen3-8B": (5.7, 8.19e9, Qwen3Config(
        vocab_size=151936, hidden_size=4096, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, intermediate_size=12288)),
    "Gemma2-9B": (7.4, 9.24e9, Gemma2Config(
        vocab_size=256000, hidden_size=3584, num_hidden_layers=42, num_attention_heads=16, num_key_value_heads=8,
        head_dim=256, intermediate_size=14336)),
}  # fmt: skip
"""MiB a position in bfloat16, as measured on GPUs, and published numbers of parameters."""


def footprint_of(config, context=CONTEXT, file_bytes=None):
    with torch.device("meta"):
        return Footprint.of_skeleton(AutoModelForCausalLM.from_config(config), context, file_bytes)


def kept_bytes_a_position(model) -> float:
    """What autograd keeps of one position, weights aside, counted tensor by tensor."""

    def kept(num_positions: int) -> int:
        weights = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
        storages: dict[int, int] = {}

        def keep(tensor):
            if (storage := tensor.untyped_storage()).data_ptr() not in weights:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        width = model.get_input_embeddings().weight.shape[1]
        read_1SD = torch.randn(1, num_positions, width, dtype=model.dtype, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            graph = model.base_model(inputs_embeds=read_1SD, use_cache=False).last_hidden_state
        assert graph.requires_grad
        return sum(storages.values())

    return (kept(40) - kept(8)) / 32


@pytest.mark.parametrize("name", LARGE)
def test_what_a_position_of_a_large_model_takes_is_near_what_was_measured(name):
    measured_mib, num_parameters, config = LARGE[name]
    footprint = footprint_of(config)
    assert footprint.num_parameters == pytest.approx(num_parameters, rel=0.005)
    assert footprint.training_bytes_a_position("bfloat16") / MIB == pytest.approx(measured_mib, rel=0.15)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_formula_is_what_autograd_keeps_or_somewhat_more(family, dtype):
    config = FAMILIES[family]()
    footprint = footprint_of(config)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval().requires_grad_(False)
    kept = kept_bytes_a_position(model)
    # The bracket is one layer; the last norm and the layer gone through backward are the `+ 1`.
    assert kept <= footprint.training_bytes_a_position(dtype) <= 2.7 * kept


def test_the_embedded_model_is_counted_without_being_loaded():
    footprint = Footprint.of(ModelSource())
    model = AutoModelForCausalLM.from_pretrained(PATH, dtype=torch.float32).eval().requires_grad_(False)
    assert footprint.num_parameters == sum(weight.numel() for weight in model.parameters())
    assert footprint.context == 1024
    assert footprint.file_bytes == (PATH / "model.safetensors").stat().st_size
    assert footprint.weights_bytes("bfloat16") == 2 * footprint.num_parameters
    assert footprint.weights_bytes("float32") == 4 * footprint.num_parameters
    assert footprint.kv_bytes_a_position("float32") == 4 * 6 * 2 * 4 * 64
    assert kept_bytes_a_position(model) == pytest.approx(
        footprint.training_bytes_a_position("float32") * 6 / 7, rel=0.02
    )


def test_latent_attention_keeps_its_latents_and_not_its_heads():
    from transformers import DeepseekV3Config

    config = DeepseekV3Config(
        vocab_size=257, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=256, moe_intermediate_size=64, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
        topk_group=1, q_lora_rank=32, kv_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=32,
        first_k_dense_replace=1,
    )  # fmt: skip
    assert footprint_of(config).kv_bytes_a_position("bfloat16") == 2 * 2 * (32 + 16)


def test_a_setting_that_differs_by_layer_is_read_layer_by_layer():
    config = Gemma4TextConfig(
        num_hidden_layers=2, head_dim=32, global_head_dim=64, layer_types=["sliding_attention", "full_attention"]
    )
    assert numbers_of(config, "head_dim") == [32, 64]
    assert numbers_of(config, "num_attention_heads") == [8] and numbers_of(config, "no_such_setting") == []


def test_recurrent_layers_have_a_state_and_plain_ones_have_none(tiny_folder):
    from transformers import MambaConfig

    config = MambaConfig(vocab_size=257, hidden_size=128, num_hidden_layers=2, state_size=8)
    state = 2 * 4 * 256 * (8 + 4)
    assert state <= footprint_of(config).state_bytes <= 1.5 * state
    assert Footprint.of(ModelSource(str(tiny_folder("llama")))).state_bytes == 0


def test_a_quantised_model_takes_what_its_files_take():
    config = FAMILIES["llama"]()
    plain = footprint_of(config, file_bytes=1234).weights_bytes("bfloat16")
    config.quantization_config = {"quant_method": "fp8"}
    assert footprint_of(config, file_bytes=1234).weights_bytes("bfloat16") == 1234 < plain
