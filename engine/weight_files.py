"""What lies in a model's folder, told before anything heavy is loaded: names, headers and sizes, no weights.

Owns: which files a model needs and what is wrong with those that are there. Must not know: transformers, torch.
"""

import json
from pathlib import Path
from typing import Any

from engine.model_source import ModelError

POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of a git-lfs pointer. Source: git-lfs specification, docs/spec.md."""

HEADER_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header. Source: safetensors README, section Format."""

INDEX = "model.safetensors.index.json"

CACHED = "models--"
"""How the hub's cache begins the name of a model's folder. Source: huggingface_hub, guide "Understand caching"."""

TOKENIZERS = ("tokenizer.json", "*.model", "vocab*.json", "vocab*.txt", "*.tiktoken", "tekken.json", "merges.txt")
"""Files that hold a vocabulary, by transformers' `vocab_files_names`."""

OTHER_FORMATS = {
    "adapter_config.json": "a PEFT adapter, not a whole model; merge it into its base model (merge_and_unload) and "
    "save the result with save_pretrained",
    "*.gguf": "a GGUF file of llama.cpp; give the safetensors release of the model",
    "pytorch_model*.bin": "PyTorch pickles, which can run code when read; save the model again with "
    "save_pretrained, which writes safetensors",
    "consolidated*": "weights in their maker's own layout; convert them with transformers' conversion script, or give "
    "the release with model.safetensors",
    "tf_model*": "TensorFlow weights; load them with transformers' from_tf in an older version and save_pretrained",
    "flax_model*": "Flax weights; load them with transformers' from_flax in an older version and save_pretrained",
    "*.onnx": "an ONNX graph, through which no gradient goes; give the safetensors release of the model",
    "onnx/*.onnx": "an ONNX graph, through which no gradient goes; give the safetensors release of the model",
    "weights*.npz": "MLX weights; give the safetensors release of the model",
    "*.pth": "PyTorch pickles, which can run code when read; save the model with save_pretrained",
    "*.pt": "PyTorch pickles, which can run code when read; save the model with save_pretrained",
    "*.ckpt": "a training checkpoint; save the model with save_pretrained",
}
"""What a folder without safetensors holds instead, and what to do: the first pattern that fits is told."""


def check_folder(folder: Path) -> None:
    """Refuse a folder whose files are not a whole model.

    Raises:
        ModelError: one line with what is wrong and what to do.
    """
    try:
        _check(folder)
    except OSError as error:
        raise ModelError(f"cannot be read ({error})") from error


def _check(folder: Path) -> None:
    if folder.is_file():
        raise ModelError(_what_else(folder.parent, folder.name) or "is a file; give the folder that it lies in")
    if not folder.is_dir():
        raise ModelError("no such folder")
    if not (folder / "config.json").is_file():
        raise ModelError(
            _what_else(folder) or _cached(folder) or "no config.json there; give a folder saved by save_pretrained"
        )
    _refuse_stand_ins(folder)
    config = _read_json(folder / "config.json")
    if (folder / "adapter_config.json").is_file():
        raise ModelError("holds a PEFT adapter beside the model, which vLLM would not apply; merge it or move it away")
    for path in _weight_files(folder, config):
        check_safetensors(path)
    if not any(path.is_file() for pattern in TOKENIZERS for path in folder.glob(pattern)):
        raise ModelError(
            "no tokenizer there; copy tokenizer.json and tokenizer_config.json from where the model is from"
        )


def _weight_files(folder: Path, config: dict[str, Any]) -> list[Path]:
    """The safetensors files that transformers will read: one, or those that an index names."""
    single = folder / str(config.get("transformers_weights") or "model.safetensors")
    if single.is_file() and single.suffix == ".safetensors":
        return [single]
    index = single if single.name.endswith(".index.json") else folder / INDEX
    if not index.is_file():
        named = ", ".join(sorted(path.name for path in folder.glob("*.safetensors"))[:3])
        if named:
            raise ModelError(f"holds {named}, but neither model.safetensors nor {INDEX}; save with save_pretrained")
        raise ModelError(_what_else(folder) or "no *.safetensors weights there; save with save_pretrained")
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index.name} names no weights (no weight_map); download it again")
    shards = sorted(set(map(str, weight_map.values())))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(shards)} weight files are missing ({_first(missing)}); finish the download"
        )
    return [folder / shard for shard in shards]


def checkpoint_shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Shapes of a checkpoint's tensors by name, from the headers of the files that transformers reads.

    Returns:
        None where not all of these files are there.
    Raises:
        ModelError: a file is not what it should be.
    """
    try:
        files = _weight_files(folder, _read_json(folder / "config.json"))
    except ModelError:
        return None
    headers = [check_safetensors(path) for path in files]
    return {name: tuple(t["shape"]) for header in headers for name, t in header.items() if name != "__metadata__"}


def check_safetensors(path: Path) -> dict[str, Any]:
    """A file's header, if the file is as long as the header says.

    Returns:
        Tensor names with their `dtype`, `shape` and `data_offsets`.
    Raises:
        ModelError: it is a git-lfs pointer, truncated, or no safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(HEADER_LENGTH_BYTES)
        if POINTER.startswith(start) and start:
            raise ModelError(f"{path.name} is a git-lfs pointer, not the weights; run git lfs pull in that folder")
        length = int.from_bytes(start, "little")
        if len(start) < HEADER_LENGTH_BYTES or HEADER_LENGTH_BYTES + length > size:
            # A length beyond any header's is no length: the file begins with something else.
            broken = "no safetensors file" if length > 2**32 else "cut short within its header"
            raise ModelError(f"{path.name} ({size:,} bytes) is {broken}; download it again")
        try:
            header = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path.name} has no readable safetensors header; download it again") from error
    said = HEADER_LENGTH_BYTES + length + max(ends, default=0)
    if size != said:
        wrong = "cut short" if size < said else "longer than it says"
        raise ModelError(f"{path.name} is {wrong}: {size:,} bytes, its header says {said:,}; download it again")
    return header


def _refuse_stand_ins(folder: Path) -> None:
    """Links and git-lfs pointers that lead to nothing."""
    dangling = [path.name for path in sorted(folder.iterdir()) if path.is_symlink() and not path.exists()]
    if dangling:
        raise ModelError(
            f"links to files that are not there ({_first(dangling)}): the download is not finished, or a snapshot "
            "of the hub's cache was moved without its blobs; download it again, or copy it with cp -rL, which follows "
            "links"
        )
    pointers = [path.name for path in sorted(folder.iterdir()) if path.is_file() and _is_pointer(path)]
    if pointers:
        raise ModelError(
            f"git-lfs pointers in place of files ({_first(pointers)}): the download fetched names alone; "
            "run git lfs pull in that folder"
        )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} is not readable JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} holds no JSON object; download it again")
    return value


def _what_else(folder: Path, within: str = "") -> str | None:
    """What the folder, or the one file named, is instead of a model in safetensors."""
    for pattern, told in OTHER_FORMATS.items():
        found = [path for path in folder.glob(pattern) if path.is_file() and (not within or path.name == within)]
        if found:
            return f"{found[0].name} is {told}"
    return None


def _cached(folder: Path) -> str | None:
    """What to give where the folder is a Hugging Face cache or lies in one: a snapshot, by `refs/main` if that says."""
    repository = next((path for path in (folder, *folder.parents) if path.name.startswith(CACHED)), None)
    repositories = (
        [repository] if repository else sorted(folder.glob(f"{CACHED}*")) or sorted(folder.glob(f"hub/{CACHED}*"))
    )
    if not repositories:
        return None
    whole = [path.parent for path in repositories[0].glob("snapshots/*/config.json")]
    main = repositories[0] / "refs" / "main"
    said = main.read_text().strip() if main.is_file() else ""
    if not whole:
        return f"is a Hugging Face cache, and {repositories[0].name} in it holds no model; finish the download"
    snapshot = max(whole, key=lambda path: (path.name == said, path.stat().st_mtime))
    others = f" (or that of another of its {len(repositories)} models)" if len(repositories) > 1 else ""
    return f"is a Hugging Face cache, not a model; give the model's folder in it, {snapshot}{others}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
