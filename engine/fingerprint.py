"""What a model's logits follow from, as one short word: weights, buffers, and what the configuration decides.

Owns: the hash and its memory. Must not know: loading, devices.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.user_cache import cache_folder

VERSION = "v2"
"""What is hashed, and how; a fingerprint begins with it. Fingerprints of other versions cannot be compared."""

DECIDES_NO_LOGITS = {
    "name_or_path", "transformers_version", "architectures", "auto_map", "dtype", "torch_dtype", "use_cache",
    "output_attentions", "output_hidden_states", "return_dict", "return_dict_in_generate", "initializer_range",
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "decoder_start_token_id",
    "id2label", "label2id", "num_labels", "problem_type", "tokenizer_class", "task_specific_params", "finetuning_task",
    "chunk_size_feed_forward", "attn_implementation", "experts_implementation", "transformers_weights",
}  # fmt: skip
"""Settings of a configuration that leave a frozen model's logits alone, besides those that begin with an underscore
and dropout. What is not known to be one counts: a fingerprint that changes needlessly costs a calibration."""

NUM_THREADS = min(8, os.cpu_count() or 1)
"""blake2b lets go of the interpreter lock; beyond eight threads memory is what one waits for. Assumption."""

WORTH_KEEPING_BYTES = 1 << 28
"""Weights below 256 MiB are hashed in well under a second: no file is kept for them."""


def fingerprint(model: Any) -> str:
    """`v2-` and 32 hex digits: of every parameter and persistent buffer by name, and of the configuration."""
    persistent = set(model.state_dict())
    buffers = ((name, buffer) for name, buffer in model.named_buffers() if name in persistent)
    tensors = sorted([*model.named_parameters(), *buffers], key=lambda named: named[0])
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        digests = threads.map(_digest, [tensor for _, tensor in tensors])
        whole = hashlib.blake2b(_settings(model).encode(), digest_size=16)
        for (name, tensor), digest in zip(tensors, digests, strict=True):
            whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {digest}".encode())
    return f"{VERSION}-{whole.hexdigest()}"


def kept_fingerprint(model: Any, files: Iterable[Path]) -> str:
    """The fingerprint of a model just loaded from these files, out of the user's cache where it is known there.

    Known by the files' paths, sizes and times, the configuration and the dtype: two models that differ in none of
    these are taken for one.
    """
    seen = [(str(path.resolve()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in sorted(files)]
    if sum(size for _, size, _ in seen) < WORTH_KEEPING_BYTES:
        return fingerprint(model)
    what = json.dumps([VERSION, seen, _settings(model), str(model.dtype)])
    path = cache_folder() / f"fingerprint-{hashlib.blake2b(what.encode(), digest_size=16).hexdigest()}.txt"
    return _kept(path, lambda: fingerprint(model))


def are_comparable(one: str, other: str) -> bool:
    """Whether two fingerprints are of one version, so that being unlike means being of unlike models."""
    return one.rpartition("-")[0] == other.rpartition("-")[0]


def _kept(path: Path, find: Callable[[], str]) -> str:
    try:
        known = path.read_text().strip()
        if known.startswith(f"{VERSION}-"):
            return known
    except (OSError, ValueError):
        pass
    found = find()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(found + "\n")
        temporary.replace(path)
    except OSError:
        pass  # a cache that cannot be written is no reason to stop
    return found


def _digest(tensor: Tensor) -> str:
    data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _settings(model: Any) -> str:
    return json.dumps(_deciding(model.config.to_diff_dict()), sort_keys=True, default=str)


def _deciding(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _deciding(of) for key, of in value.items() if not _is_idle(str(key))}
    return [_deciding(of) for of in value] if isinstance(value, (list, tuple)) else value


def _is_idle(key: str) -> bool:
    return key in DECIDES_NO_LOGITS or key.startswith("_") or "dropout" in key or key.endswith("pdrop")
