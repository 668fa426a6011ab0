"""Models that read differently in different company are refused; those that only lack a usable cache go without."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    FalconMambaConfig,
    Gemma4TextConfig,
    MambaConfig,
    Phi3Config,
    RwkvConfig,
)
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from engine.decoding.greedy import Greedy
from engine.frozen_lm import FrozenLM
from engine.loading import load_model
from engine.model_source import ModelError, ModelSource
from engine.served_length import pin_rope
from tests.tiny import CONTEXT, INITIALIZER_RANGE, VOCAB_SIZE, byte_tokenizer

SMALL = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": INITIALIZER_RANGE}
ATTENDING = SMALL | {
    "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": CONTEXT, "pad_token_id": 0,
    "eos_token_id": 0, "bos_token_id": None,
}  # fmt: skip
ORIGINAL = 16
SHORT, LONG = [1.0] * 8, [4.0] * 8
LONG_ROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": SHORT, "long_factor": LONG,
    "original_max_position_embeddings": ORIGINAL,
}  # fmt: skip


def model_of(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def long_rope_model():
    return model_of(Phi3Config(**ATTENDING, rope_parameters=dict(LONG_ROPE), original_max_position_embeddings=ORIGINAL))


def slow_greedy(lm: FrozenLM, prompt_KD: torch.Tensor, num_tokens: int) -> list[int]:
    """Greedy decoding that reads the whole text anew for every token."""
    said: list[int] = []
    for _ in range(num_tokens):
        read_SD = torch.cat([prompt_KD, lm.embed(torch.tensor(said, dtype=torch.long))])
        said.append(lm.model(inputs_embeds=read_SD[None], use_cache=False).logits[0, -1].argmax().item())
    return said


@pytest.mark.parametrize("served_length", [ORIGINAL, ORIGINAL + 1, None])
def test_long_rope_takes_the_long_factors_exactly_where_the_served_length_passes_the_original(served_length):
    model = long_rope_model()
    pin_rope(model, served_length)
    factors = torch.tensor(SHORT if served_length == ORIGINAL else LONG)
    base_H = 10000.0 ** (torch.arange(0, 16, 2) / 16)
    for length in (3, ORIGINAL + 5, 3):
        model(input_ids=torch.arange(length)[None])
        torch.testing.assert_close(model.model.rotary_emb.inv_freq, 1 / (factors * base_H))


def test_long_rope_that_is_not_held_at_one_length_is_refused():
    with pytest.raises(ModelError, match="Phi3ForCausalLM: a longer text beside it changes what it says .by up to"):
        FrozenLM(long_rope_model(), byte_tokenizer())
    pinned = long_rope_model()
    pin_rope(pinned, ORIGINAL)
    assert FrozenLM(pinned, byte_tokenizer()).caches


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(**SMALL, state_size=8, eos_token_id=0, pad_token_id=0),
        FalconMambaConfig(**SMALL, state_size=8, eos_token_id=0, pad_token_id=0),
        RwkvConfig(**SMALL, attention_hidden_size=32, context_length=CONTEXT, eos_token_id=0, bos_token_id=0),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.filterwarnings("ignore")
def test_a_model_whose_state_is_no_cache_of_attention_is_decoded_without_one(config):
    lm = FrozenLM(model_of(config), byte_tokenizer())
    assert not lm.caches
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randn(k, lm.hidden_size, generator=generator) * lm.embed_rms for k in (2, 7)]
    said = [one.token_ids for one in Greedy().decode(lm, prompts, [5, 3])]
    slow = [slow_greedy(lm, prompt_KD, num_tokens) for prompt_KD, num_tokens in zip(prompts, (5, 3), strict=True)]
    assert [list(ids) for ids in said] == [ids[: len(one)] for ids, one in zip(slow, said, strict=True)]


def test_a_model_that_sees_what_follows_is_refused():
    with pytest.raises(ModelError, match="BertLMHeadModel: .* would not be what it says"):
        FrozenLM(model_of(BertConfig(**ATTENDING)), byte_tokenizer())


def test_a_model_that_looks_its_tokens_up_again_by_their_embeddings_is_refused():
    sizes = {"vocab_size_per_layer_input": VOCAB_SIZE, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
    model = model_of(Gemma4TextConfig(**ATTENDING, **sizes, num_key_value_heads=1, head_dim=16, global_head_dim=16))
    with pytest.raises(ModelError, match="its own tokens and no other vectors .*another architecture"):
        FrozenLM(model, byte_tokenizer())


@pytest.mark.parametrize("part", ["mlp", "self_attn.v_proj", "input_layernorm"])
def test_a_part_that_lets_no_gradient_through_is_refused(part, tiny_folder):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"))
    model.model.layers[1].get_submodule(part).register_forward_hook(lambda module, read, said: said.detach())
    with pytest.raises(ModelError, match="its gradient is not that of what it says .off by"):
        FrozenLM(model, byte_tokenizer())


def test_a_model_whose_gradient_ends_at_the_embeddings_is_refused(tiny_folder):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"))
    model.model.norm.register_forward_hook(lambda module, read, said: said.detach())
    with pytest.raises(ModelError, match="no gradient passes it"):
        FrozenLM(model, byte_tokenizer())


@register_quantization_config("one_way")
class OneWayConfig(QuantizationConfigMixin):
    def __init__(self, **_):
        self.quant_method: Any = "one_way"


@register_quantizer("one_way")
class OneWayQuantizer(HfQuantizer):
    requires_calibration = False
    is_trainable: Any = False

    def is_serializable(self, *args, **kwargs):
        return True


def test_a_quantiser_that_cannot_be_trained_through_is_refused_before_the_weights_are_read(tiny_folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"))
    model.config.quantization_config = {"quant_method": "one_way"}
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match="no gradient passes weights quantised with one_way .*OneWayQuantizer.*unquant"
    ):
        FrozenLM.load(ModelSource(str(tmp_path)))


def test_attention_caps_of_the_configuration_are_kept(tmp_path, tiny_folder):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("gemma2"), attn_logit_softcapping=0.5)
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    ids_1T = torch.arange(11)[None]
    capped, eager, left_out = (
        load(tmp_path).eval()(input_ids=ids_1T).logits
        for load in (
            lambda folder: load_model(ModelSource(str(folder)), torch.float32),
            lambda folder: AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager"),
            lambda folder: AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa"),
        )
    )
    torch.testing.assert_close(capped, eager)
    assert (capped - left_out).abs().max() > 0.1
