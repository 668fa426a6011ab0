"""Exports for other programs: adapters for PEFT, vectors for the projector, a card for the hub."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from orchestrator.export.model_name import ancestor
from tests.orchestrator.export.test_folder import SAID, index_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def formats(sayings, tmp_path, verbatim):
    """`formats("peft", ...)`: export the shared run in these formats; the new folder."""

    def run(*names):
        outcome = verbatim("export", sayings, "--out", tmp_path / "new", *(f"--format={name}" for name in names))
        assert outcome.code == 0, outcome
        return tmp_path / "new"

    return run


def test_an_adapter_is_what_peft_documents_of_one(formats):
    out = formats("peft")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "index.jsonl", "peft"]
    for entry in index_of(out):
        adapter = out / "peft" / entry["tensor"]
        config = json.loads((adapter / "adapter_config.json").read_text())
        assert (config["peft_type"], config["task_type"]) == ("PROMPT_TUNING", "CAUSAL_LM")
        assert (config["num_virtual_tokens"], config["token_dim"]) == (entry["num_vectors"], 256)
        assert Path(config["base_model_name_or_path"]).is_dir()
        with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
            assert list(file.keys()) == ["prompt_embeddings"]
            assert file.get_tensor("prompt_embeddings").shape == (entry["num_vectors"], 256)


def test_peft_generates_the_texts(formats, monkeypatch, capsys):
    pytest.importorskip("peft", reason="peft is not installed; the adapters' files are tested without it")
    out = formats("peft")
    (example,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "".join(f"{text}\n" for text in SAID)


def test_the_projector_gets_a_label_a_vector(formats):
    out = formats("projector")
    vectors = np.loadtxt(out / "projector" / "vectors.tsv", delimiter="\t")
    head, *labels = (out / "projector" / "metadata.tsv").read_text().splitlines()
    assert vectors.shape == (sum(entry["num_vectors"] for entry in index_of(out)), 256) and len(labels) == len(vectors)
    assert {len(line.split("\t")) for line in labels} == {len(head.split("\t"))}
    assert not any("\x1b" in line for line in labels)


def test_the_readme_is_a_card_that_the_hub_can_read(formats):
    from huggingface_hub import ModelCard

    card = ModelCard((formats("safetensors", "peft") / "README.md").read_text())
    assert card.data.tags == ["soft-prompt", "prompt-tuning", "verbatim"] and card.data.library_name == "peft"
    assert card.data.base_model is None and "# 3 soft prompts for pocket" in card.text


@pytest.mark.parametrize(
    ("name", "told"),
    [("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"), ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"), ("pocket", None)],
)
def test_the_card_names_the_hubs_model(name, told):
    assert ancestor(name) == told
