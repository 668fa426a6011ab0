"""Whatever decides a logit changes the fingerprint, and nothing else does."""

import os

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from engine import fingerprint as module
from engine.fingerprint import VERSION, are_comparable, fingerprint, kept_fingerprint
from tests.tiny import VOCAB_SIZE

ROPE = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}


def model_of(**settings):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, pad_token_id=None, **settings,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="module")
def plain() -> str:
    return fingerprint(model_of())


@pytest.mark.parametrize("settings", [{"rms_norm_eps": 1e-4}, {"rope_parameters": ROPE}, {"hidden_act": "gelu"}])
def test_a_setting_that_decides_logits_changes_it(settings, plain):
    assert fingerprint(model_of(**settings)) != plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_name_or_path", "/elsewhere"), ("transformers_version", "4.0.0"), ("use_cache", False), ("eos_token_id", 7),
        ("attention_dropout", 0.1), ("architectures", ["Other"]), ("initializer_range", 0.5),
    ],
)  # fmt: skip
def test_a_setting_that_decides_no_logits_leaves_it(name, value, plain):
    model = model_of()
    setattr(model.config, name, value)
    assert fingerprint(model) == plain


def test_a_persistent_buffer_counts_and_another_does_not(plain):
    prints = []
    for persistent in (True, True, False):
        model = model_of()
        model.model.register_buffer("bias", torch.full((3,), float(len(prints))), persistent=persistent)
        prints.append(fingerprint(model))
    assert len(set(prints)) == 3 and prints[2] == plain


@pytest.mark.parametrize("num_threads", [1, 5])
def test_the_number_of_threads_leaves_it(num_threads, plain, monkeypatch):
    monkeypatch.setattr(module, "NUM_THREADS", num_threads)
    assert fingerprint(model_of()) == plain


def test_the_dtype_counts(plain):
    assert fingerprint(model_of().bfloat16()) != plain


def test_it_is_kept_by_the_files_size_and_time_the_settings_and_the_dtype(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WORTH_KEEPING_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"any")
    model = model_of()
    first = kept_fingerprint(model, [weights])
    with torch.no_grad():
        model.lm_head.weight += 1
    assert kept_fingerprint(model, [weights]) == first, "nothing is hashed again"
    changed = fingerprint(model)
    os.utime(weights, ns=(1, 1))
    assert kept_fingerprint(model, [weights]) == changed != first
    assert kept_fingerprint(model.bfloat16(), [weights]) not in (first, changed)


def test_fingerprints_of_another_version_are_not_compared(plain):
    older = "52239f5ec1cc0b9abaae3387be397da0"
    assert plain.startswith(f"{VERSION}-")
    assert are_comparable(plain, plain[:-1] + "x") and are_comparable(older, older)
    assert not are_comparable(plain, older)
