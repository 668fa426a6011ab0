"""What `verbatim doctor` says of a model, by its configuration and the headers of its files."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BloomConfig

from engine import pocket
from engine.model_source import ModelSource
from orchestrator.doctor.model import examine_model, read_rate
from orchestrator.process.memory import GIB, Memory
from tests.tiny import VOCAB_SIZE, byte_tokenizer, save_tiny

HF = "hf"
"""So that vLLM is not imported, where it is not what is looked at."""


@pytest.fixture
def model(tmp_path) -> Path:
    """A sound tiny model in a folder of this test's own."""
    return save_tiny("llama", tmp_path / "model")


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def examined(folder: Path, engine: str = HF) -> dict:
    return {finding.name: finding for finding in examine_model(ModelSource(str(folder)), engine)}


def test_a_sound_model_is_told_part_by_part(model):
    findings = examined(model)
    assert all(finding.is_fine and not finding.is_warning for finding in findings.values()), findings
    assert "LlamaForCausalLM (llama), 0.4 million parameters, 2 layers" in findings["model"].found
    assert "in 1 file, F32; a run here computes in float32" in findings["weights"].found
    assert findings["context"].found == "64 positions"
    assert "257 tokens for 257 rows of the embedding, ends a text with 0, plain" in findings["tokenizer"].found
    assert "room for a table of 1,536 positions" in findings["memory for it"].found
    assert findings["loading"].found.startswith("less than a second")


def pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def of_another_framework(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def gptq(folder: Path) -> None:
    edit(folder, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})


def fp8(folder: Path) -> None:
    edit(folder, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})


def unknown_family(folder: Path) -> None:
    edit(folder, model_type="llama9")


def senseless(folder: Path) -> None:
    edit(folder, num_attention_heads="many")


@pytest.mark.parametrize(
    "spoil", [pointer, no_weights, cut_off, of_another_framework, gptq, fp8, unknown_family, senseless]
)
def test_a_model_that_cannot_be_had_is_one_finding_in_one_line(model, spoil):
    spoil(model)
    (finding,) = examine_model(ModelSource(str(model)), HF)
    assert finding.name == "model" and not finding.is_fine
    assert finding.found.startswith(f"{model}: ") and "\n" not in finding.found


def test_weights_that_are_missing_are_seen_in_the_headers(model):
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    finding = examined(model)["weights"]
    assert not finding.is_fine and "lacks 1 of the weights" in finding.found and "layers.1.mlp.up_proj" in finding.found


def test_what_does_not_fit_is_told_with_both_numbers(model, monkeypatch):
    monkeypatch.setattr(Memory, "here", lambda device: Memory(4 * GIB, GIB))
    finding = examined(model)["memory for it"]
    assert not finding.is_fine and "1.0 of 4.0 GiB are free" in finding.found and "at least 3." in finding.found


def test_a_context_that_is_stated_nowhere_is_worth_knowing(tmp_path):
    config = BloomConfig(vocab_size=VOCAB_SIZE, hidden_size=32, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    finding = examined(tmp_path)["context"]
    assert finding.is_warning and finding.found.startswith("stated nowhere, taken as 2,048 positions")


def test_a_tokenizer_is_told_in_a_word(model):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    for key, value, word in (
        ("normalizer", {"type": "NFC"}, "normalising"),
        (
            "pre_tokenizer",
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False},
            "prefix-space",
        ),
    ):
        (model / "tokenizer.json").write_text(json.dumps(tokenizer | {key: value}))
        assert examined(model)["tokenizer"].found.endswith(f", {word}")


def test_the_read_rate_is_measured_on_a_part(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert 1e6 < read_rate([path]) < 1e12


def test_a_model_is_loaded_when_asked(model):
    findings = examine_model(ModelSource(str(model)), HF, loads=True)
    assert findings[-1].name == "load" and findings[-1].is_fine


def test_plain_doctor_looks_at_the_embedded_model_and_prints_json(verbatim):
    outcome = verbatim("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(outcome.out)}
    assert "pocket: LlamaForCausalLM" in findings["model"]["found"] and "vLLM" not in findings
    failed = [name for name, finding in findings.items() if not finding["is_fine"]]
    assert outcome.code == (2 if failed else 0)
    assert set(failed) <= {"memory"}, "all but what other processes here may take at this moment"
    free = float(findings["memory"]["found"].split()[0])
    assert abs(free - Memory.here("cpu").free / GIB) < 2, "what files fill can be had too"


@pytest.mark.vllm
@pytest.mark.slow
def test_an_architecture_or_a_head_that_vllm_lacks_is_told_before_a_run(tmp_path):
    copy = shutil.copytree(pocket.PATH, tmp_path / "model")
    assert "has LlamaForCausalLM" in examined(copy, "vllm")["vLLM"].found
    edit(copy, head_dim=8)
    assert "heads of 8" in examined(copy, "vllm")["vLLM"].found
    edit(copy, head_dim=64, architectures=["GPTNeoForCausalLM"])
    finding = examined(copy, "vllm")["vLLM"]
    assert not finding.is_fine and finding.remedy == "judge with --engine hf"
