"""A checkpoint's weights, accounted for by name from the headers of its files: what a load would find, found before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    LlamaConfig,
    Mamba2Config,
    MixtralConfig,
    Qwen3MoeConfig,
)

from engine import loading
from engine.loading import load_model, require_whole_files
from engine.model_source import ModelError, ModelSource
from engine.pocket import PATH as POCKET
from tests.tiny import NARROW, PICTURES, byte_tokenizer, save_tiny

SIZES: dict[str, Any] = {
    "vocab_size": 11, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": None,
}  # fmt: skip
EXPERTS: dict[str, Any] = SIZES | {"moe_intermediate_size": 8}

KINDS: dict[str, Callable[[], Any]] = {
    "tied": lambda: LlamaConfig(**SIZES, tie_word_embeddings=True),
    "experts kept apart in the file": lambda: MixtralConfig(**SIZES, num_local_experts=3),
    "experts and a router": lambda: Qwen3MoeConfig(**EXPERTS, num_experts=3, num_experts_per_tok=2),
    "recurrent": lambda: Mamba2Config(
        vocab_size=11, hidden_size=16, num_heads=4, head_dim=8, n_groups=1, state_size=4, num_hidden_layers=2
    ),
    "the half of an encoder and decoder": lambda: BartConfig(
        vocab_size=11, d_model=16, decoder_layers=2, encoder_layers=2, decoder_attention_heads=2
    ),
}  # fmt: skip
"""What a checkpoint may hold beside a plain decoder's weights, under names of its own."""


@pytest.fixture
def saved(tmp_path) -> Callable[[str], ModelSource]:
    """A random model of a kind, in a folder."""

    def save(kind: str) -> ModelSource:
        if kind in KINDS:
            AutoModelForCausalLM.from_config(KINDS[kind]()).save_pretrained(tmp_path)
            byte_tokenizer().save_pretrained(tmp_path)
        else:
            save_tiny(kind, tmp_path)
        return ModelSource(str(tmp_path))

    return save


def weights(source: ModelSource) -> Path:
    return Path(source.path) / "model.safetensors"


@pytest.mark.parametrize("kind", [*KINDS, *NARROW, *PICTURES])
def test_a_whole_checkpoint_passes_and_one_that_lacks_a_weight_does_not(kind, saved):
    source = saved(kind)
    require_whole_files(source)
    held = load_file(weights(source))
    own = [name for name in held if "vision" not in name and "multi_modal" not in name]
    for name in own[:: len(own) // 2]:
        save_file({n: t for n, t in held.items() if n != name}, weights(source), metadata={"format": "pt"})
        with pytest.raises(ModelError, match="the checkpoint (lacks [12] of|holds 1) [^\n]*is damaged"):
            require_whole_files(source)
        with pytest.raises(ModelError):
            load_model(source, torch.float32)


def test_the_models_that_come_with_it_pass():
    assert Path(POCKET, "model.safetensors").is_file()
    require_whole_files(ModelSource())


@pytest.mark.smollm2
def test_a_real_model_passes(smollm2_folder):
    require_whole_files(ModelSource(str(smollm2_folder)))


def test_nothing_is_loaded(saved, monkeypatch):
    source = saved("tied")
    monkeypatch.setattr(loading, "from_pretrained", lambda auto, source, **more: auto.from_pretrained(source.path))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    require_whole_files(source)


def test_what_cannot_be_counted_without_numbers_is_left_to_the_load(saved, monkeypatch):
    source = saved("tied")
    held = load_file(weights(source))
    held.popitem()
    save_file(held, weights(source), metadata={"format": "pt"})

    def needs_numbers(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(loading, "account", needs_numbers)
    require_whole_files(source)
    with pytest.raises(ModelError, match="lacks 1"):
        load_model(source, torch.float32)


def test_no_bar_is_drawn(saved, capfd):
    require_whole_files(saved("experts and a router"))
    capfd.readouterr()
    require_whole_files(ModelSource())
    assert capfd.readouterr() == ("", "")
