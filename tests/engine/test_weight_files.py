"""A model's folder, looked at before anything is loaded: each thing that can be wrong with it, told in one line."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.frozen_lm import FrozenLM, TokenRule
from engine.loading import require_whole_files
from engine.model_source import ModelError, ModelSource
from engine.weight_files import OTHER_FORMATS, check_folder
from tests.tiny import byte_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456789\n"


@pytest.fixture
def folder(tmp_path, tiny_folder) -> Path:
    """A whole tiny model, to be broken."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def shard(folder: Path) -> list[Path]:
    """Save the weights anew, in several files and an index."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="200KB")
    return sorted(folder.glob("model-*"))


def only(folder: Path, name: str) -> None:
    """Nothing but one file of another kind."""
    for path in folder.iterdir():
        path.unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


BROKEN: dict[str, Callable[[Path], object]] = {
    "model.safetensors.*git lfs pull": lambda f: weights(f).write_text(POINTER),
    "tokenizer.json.*git lfs pull": lambda f: (f / "tokenizer.json").write_text(POINTER),
    "cut short: .* its header says": lambda f: cut(weights(f), weights(f).stat().st_size - 1),
    "cut short within its header": lambda f: cut(weights(f), 100),
    "0 bytes.*cut short": lambda f: cut(weights(f), 0),
    "longer than it says": lambda f: weights(f).write_bytes(weights(f).read_bytes() + b"\0"),
    "no safetensors file": lambda f: weights(f).write_bytes(b"<html>Not found</html>" * 9),
    "no readable safetensors header": lambda f: weights(f).write_bytes(bytes([9, *[0] * 7]) + b"not JSON!"),
    "of [0-9]+ weight files are missing .model-00002-of": lambda f: shard(f)[1].unlink(),
    "model-00003-of.*cut short": lambda f: cut(shard(f)[2], 5000),
    "names no weights": lambda f: (shard(f), edit(f / "model.safetensors.index.json", weight_map={})),
    "index.json is not readable JSON": lambda f: (shard(f), cut(f / "model.safetensors.index.json", 99)),
    "no config.json": lambda f: (f / "config.json").unlink(),
    "config.json is not readable JSON": lambda f: cut(f / "config.json", 40),
    "config.json holds no JSON object": lambda f: (f / "config.json").write_text("[]"),
    "no tokenizer there": lambda f: [path.unlink() for path in f.glob("tokenizer*")],
    "adapter beside the model": lambda f: (f / "adapter_config.json").write_text("{}"),
    "a PEFT adapter, not a whole model": lambda f: only(f, "adapter_config.json"),
    "holds other.safetensors, but neither": lambda f: weights(f).rename(f / "other.safetensors"),
    "pytorch_model.bin is PyTorch pickles": lambda f: weights(f).rename(f / "pytorch_model.bin"),
}


@pytest.mark.parametrize("told", BROKEN)
def test_a_broken_folder_is_refused_in_one_line_that_says_what_is_wrong(told, folder):
    check_folder(folder)
    BROKEN[told](folder)
    with pytest.raises(ModelError, match=f"^--model {re.escape(str(folder))}: [^\n]*{told}[^\n]*$"):
        TokenRule.load(ModelSource(str(folder)))


@pytest.mark.parametrize("pattern", OTHER_FORMATS)
def test_a_folder_of_another_framework_is_told_what_it_is_and_what_to_do(pattern, folder):
    only(folder, pattern.replace("*", "_1"))
    with pytest.raises(
        ModelError, match=f"{re.escape(pattern.split('/')[-1].replace('*', '_1'))} is .*(save|give|convert)"
    ):
        check_folder(folder)


def test_a_file_in_place_of_a_folder_is_refused(folder):
    with pytest.raises(ModelError, match="give the folder that it lies in"):
        check_folder(weights(folder))


@pytest.fixture
def cache(folder, tmp_path) -> Path:
    """The hub's cache as huggingface_hub lays it out: two snapshots of links to blobs, the first is main."""
    repository = tmp_path / "hub" / "models--acme--tiny"
    for revision in ("a" * 40, "b" * 40):
        snapshot = repository / "snapshots" / revision
        snapshot.mkdir(parents=True)
        for path in folder.iterdir():
            blob = repository / "blobs" / path.name[::-1]
            blob.parent.mkdir(exist_ok=True)
            shutil.copy(path, blob)
            (snapshot / path.name).symlink_to(Path("../../blobs", blob.name))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    return tmp_path / "hub"


def test_a_snapshot_of_the_hubs_cache_is_a_whole_model(cache, tiny_llama):
    source = ModelSource(str(cache / "models--acme--tiny" / "snapshots" / ("b" * 40)))
    require_whole_files(source)
    assert FrozenLM.load(source).fingerprint == tiny_llama.fingerprint


@pytest.mark.parametrize("place", [".", "..", "models--acme--tiny", "models--acme--tiny/snapshots"])
def test_any_other_folder_of_the_hubs_cache_says_which_to_give(place, cache):
    snapshot = cache / "models--acme--tiny" / "snapshots" / ("a" * 40)
    (cache.parent / "model").rename(cache.parent / "elsewhere")
    with pytest.raises(ModelError, match=f"is a Hugging Face cache.*give the model's folder in it, {snapshot}$"):
        check_folder((cache / place).resolve())
    check_folder(snapshot)


def test_a_cache_whose_download_never_began_says_so(tmp_path):
    (tmp_path / "models--acme--tiny" / "refs").mkdir(parents=True)
    with pytest.raises(ModelError, match="models--acme--tiny in it holds no model; finish the download"):
        check_folder(tmp_path)


def test_a_snapshot_without_its_blobs_is_refused_by_name(cache):
    snapshot = cache / "models--acme--tiny" / "snapshots" / ("a" * 40)
    (snapshot / "model.safetensors").resolve().unlink()
    with pytest.raises(ModelError, match=r"links to files that are not there \(model.safetensors\).*cp -rL"):
        check_folder(snapshot)


def test_a_sharded_model_is_a_whole_model(folder, tiny_llama):
    assert len(shard(folder)) > 3
    assert FrozenLM.load(ModelSource(str(folder))).fingerprint == tiny_llama.fingerprint


LAYER = "model.layers.1.mlp.down_proj.weight"
MISFITS: dict[str, Callable[[dict], dict]] = {
    f"lacks 1 of the weights .*{re.escape(LAYER)}": lambda w: {name: t for name, t in w.items() if name != LAYER},
    "lacks 9 of the weights .*, ...": lambda w: {name: t for name, t in w.items() if "layers.1" not in name},
    "holds 1 weights that the model has no place for .model.extra": lambda w: w | {"model.extra": w[LAYER].clone()},
    f"holds 1 weights of another shape .{re.escape(LAYER)} .128, 255. for .128, 256": lambda w: (
        w | {LAYER: w[LAYER][:, 1:].contiguous()}
    ),
}


@pytest.mark.parametrize("told", MISFITS)
def test_weights_that_do_not_fit_the_configuration_are_refused_by_name(told, folder):
    save_file(MISFITS[told](load_file(weights(folder))), weights(folder), metadata={"format": "pt"})
    for look in (require_whole_files, FrozenLM.load):
        with pytest.raises(ModelError, match=f"^--model {re.escape(str(folder))}: the checkpoint {told}"):
            look(ModelSource(str(folder)))


def test_frequencies_that_old_checkpoints_hold_are_nothing_unexpected(folder, tiny_llama):
    held = load_file(weights(folder))
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": held[LAYER][0, :16].clone()}
    save_file(held | frequencies, weights(folder), metadata={"format": "pt"})
    require_whole_files(ModelSource(str(folder)))
    assert FrozenLM.load(ModelSource(str(folder))).fingerprint == tiny_llama.fingerprint


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_a_quantiser_whose_package_is_not_there_is_one_line(method, folder):
    edit(folder / "config.json", quantization_config={"quant_method": method, "bits": 4, "load_in_4bit": True})
    for load in (TokenRule.load, FrozenLM.load):
        with pytest.raises(ModelError, match="pip install .*install what it names, or give the model in its unquant"):
            load(ModelSource(str(folder)))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model_type": "llama9"}, "llama9"),
        ({"model_type": "t5"}, "t5 is no causal language model"),
        ({"model_type": "my_llama", "auto_map": {"AutoConfig": "my.MyConfig"}}, "never run"),
        ({"hidden_size": "many"}, "hidden_size"),
        ({"num_attention_heads": 0}, "cannot be loaded"),
    ],
)
def test_a_configuration_that_transformers_cannot_use_is_one_line(values, told, folder):
    edit(folder / "config.json", **values)
    with pytest.raises(ModelError, match=f"^--model [^\n]*{told}[^\n]*$"):
        TokenRule.load(ModelSource(str(folder)))


def test_a_tokenizer_of_a_model_with_more_tokens_is_refused(folder):
    tokenizer = byte_tokenizer()
    vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary["model"]["vocab"]["beyond"] = 1000
    byte_tokenizer().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(
        ModelError, match="tokens up to 1000, the model's embedding has 257 rows: it is another model's"
    ):
        TokenRule.load(ModelSource(str(folder)))


@pytest.mark.parametrize("context", [None, 1e30, 10**30])
def test_a_context_that_is_not_told_is_capped(context, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "bloom", "max_position_embeddings": context})
    )
    assert TokenRule.load(ModelSource(str(folder))).context == 2048
