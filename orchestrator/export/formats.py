"""The forms in which prompts leave: what each writes into the exported folder.

Owns: the files of each format, written a shard at a time. Must not know: which rows are taken, the README.

    safetensors   prompts.safetensors               one (K, D) tensor a text; of several shards each its file
    vllm          vllm_requests.jsonl               the same; one line a text: body of a request to /v1/completions
    peft          peft/prompt-00000/...             one prompt-tuning adapter a text, as PEFT writes it
    projector     projector/...                     every vector of every prompt, for TensorBoard's embedding projector

K soft-prompt vectors, D hidden size.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import save, save_file

from orchestrator.console.terminal import printable
from orchestrator.export.chosen import Chosen, Shard
from orchestrator.export.model_name import hub_name, loadable
from orchestrator.verifiers.completion_request import completion_request

FORMAT_VERSION = 1

MOST_CHARACTERS = 80
"""Of a text, beside its vectors in the projector."""


TENSORS, REQUESTS = ("prompts", ".safetensors"), ("vllm_requests", ".jsonl")
"""Stem and suffix of the files that are made in shards."""


def write_safetensors(chosen: Chosen, shard: Shard, folder: Path) -> None:
    model = chosen.record.model
    about = {
        "format": "verbatim prompts", "format_version": str(FORMAT_VERSION), "model": model.name,
        "revision": model.revision or "", "fingerprint": model.fingerprint, "hidden_size": str(model.hidden_size),
        "dtype": chosen.dtype,
    }  # fmt: skip
    save_file(shard.prompts, folder / chosen.file(*TENSORS, shard.number), about)


def write_vllm_requests(chosen: Chosen, shard: Shard, folder: Path) -> None:
    record = chosen.record
    add_lines(
        folder / chosen.file(*REQUESTS, shard.number),
        (
            completion_request(record.model.name, shard.prompts[name], row["token_ids"], ends=record.recipe.end_of_text)
            for name, row in shard.named
        ),
    )


def write_peft_adapters(chosen: Chosen, shard: Shard, folder: Path) -> None:
    """Source: peft 0.21, tuners/prompt_tuning and utils/save_and_load.py: a prompt-tuning adapter is its configuration
    and one tensor, `prompt_embeddings`."""
    model = chosen.record.model
    for name, prompt_KD in shard.prompts.items():
        adapter = folder / "peft" / name
        adapter.mkdir(parents=True)
        num_vectors, hidden_size = prompt_KD.shape
        config = {
            "peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "inference_mode": True,
            "base_model_name_or_path": hub_name(model.name) or loadable(model.name), "revision": model.revision,
            "num_virtual_tokens": num_vectors, "token_dim": hidden_size, "num_transformer_submodules": 1,
            "prompt_tuning_init": "RANDOM",
        }  # fmt: skip
        (adapter / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        content = save({"prompt_embeddings": prompt_KD.contiguous()}, {"format": "pt"})
        (adapter / "adapter_model.safetensors").write_bytes(content)


def write_projector(chosen: Chosen, shard: Shard, folder: Path) -> None:
    """Vectors and metadata as tab-separated values, and the configuration that TensorBoard's plugin looks for."""
    place = folder / "projector"
    place.mkdir(exist_ok=True)
    with (
        (place / "vectors.tsv").open("a", encoding="utf-8") as vectors,
        (place / "metadata.tsv").open("a", encoding="utf-8") as metadata,
    ):
        if not shard.number:
            metadata.write("label\tid\tvector\tnorm\tmin_margin\ttext\n")
        for name, row in shard.named:
            id, text = printable(row["id"]), printable(row["text"][:MOST_CHARACTERS])
            for k, vector_D in enumerate(shard.prompts[name].float()):
                vectors.write("\t".join(f"{value:.6g}" for value in vector_D.tolist()) + "\n")
                metadata.write(f"{id}/{k}\t{id}\t{k}\t{vector_D.norm():.4g}\t{row['min_margin']:.4g}\t{text}\n")
    (place / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "prompts"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n}\n'
    )


FORMATS: dict[str, Callable[[Chosen, Shard, Path], None]] = {
    "safetensors": write_safetensors,
    "vllm": write_vllm_requests,
    "peft": write_peft_adapters,
    "projector": write_projector,
}
DEFAULT = ("safetensors", "vllm")


def add_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """One object a line, behind those that are there."""
    with path.open("a", encoding="utf-8") as lines:
        lines.writelines(json.dumps(entry) + "\n" for entry in entries)
