"""A trained correction as a folder: one safetensors file that says which model it is for.

Owns: the format, what is refused. Must not know: how it was trained, recipes, Ray.
"""

import hashlib
import json
import os
from pathlib import Path
from weakref import WeakKeyDictionary

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.correction.correction import Correction, CorrectionShape
from engine.frozen_lm import FrozenLM
from engine.settings import SettingsError

NAME = "correction.safetensors"
KEY = "verbatim"
"""Of the file's metadata: JSON with `version`, `fingerprint`, `hidden_size` and `shape`."""

VERSION = 1
REMEDY = "train one with `verbatim learn CORPUS --model M --out DIR`"


class CorrectionError(SettingsError):
    """A folder that cannot be used; the message names it and the remedy."""


def save_correction(folder: Path, correction: Correction, lm: FrozenLM) -> str:
    """Write the networks, whole or not at all; their digest."""
    told = {
        "version": VERSION,
        "fingerprint": lm.fingerprint,
        "hidden_size": lm.hidden_size,
        "shape": correction.shape.model_dump(mode="json"),
    }
    save_tensors(folder / NAME, {n: t.cpu().contiguous() for n, t in correction.state_dict().items()}, told)
    return digest_of(folder)


def save_tensors(path: Path, tensors: dict[str, Tensor], told: dict) -> None:
    """A safetensors file with JSON in its metadata, by way of a temporary name."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    save_file(tensors, unfinished, metadata={KEY: json.dumps(told, sort_keys=True)})
    os.replace(unfinished, path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What `save_tensors` wrote.

    Raises:
        CorrectionError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})[KEY])
        if not isinstance(told, dict):
            raise TypeError("its metadata is no JSON object")
        return load_file(path), told
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CorrectionError(f"{path}: not readable as a learned correction ({error}); {REMEDY}") from error


def digest_of(folder: Path) -> str:
    """Of the networks' file, 16 hex digits.

    Raises:
        CorrectionError: there is none.
    """
    path = folder / NAME
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError as error:
        raise CorrectionError(
            f"start.folder = {str(folder)!r}: no {NAME} there ({error.strerror}); {REMEDY}"
        ) from error


def check_digest(folder: Path, digest: str) -> None:
    """Refuse a folder whose networks are others than a recipe was written for; an empty digest takes any.

    Raises:
        CorrectionError: they are, or there are none.
    """
    if (found := digest_of(folder)) != digest and digest:
        raise CorrectionError(
            f"start.digest = {digest!r}: {folder} holds networks of digest {found}; it was trained again since, "
            "take the recipe.toml that lies in it"
        )


def require_model(folder: Path, fingerprint: str, digest: str = "") -> None:
    """Refuse networks that were trained through another model, before any is loaded.

    Raises:
        CorrectionError: they were; or there are none, they are damaged, or of another digest.
    """
    check_digest(folder, digest)
    _, told = load_tensors(folder / NAME)
    if told.get("version") != VERSION:
        raise CorrectionError(f"start.folder = {str(folder)!r}: version {told.get('version')} of {NAME}; {REMEDY}")
    if told.get("fingerprint") != fingerprint:
        raise CorrectionError(
            f"start.folder = {str(folder)!r}: trained through the model {told.get('fingerprint')}, and this one is "
            f"{fingerprint}; what one model reads is noise to another: {REMEDY}"
        )


def load_correction(folder: Path, lm: FrozenLM, digest: str = "") -> Correction:
    """The networks, on the model's device, without gradients.

    Raises:
        CorrectionError: there are none, they are damaged, of another digest, or were trained through another model.
    """
    require_model(folder, lm.fingerprint, digest)
    tensors, told = load_tensors(folder / NAME)
    try:
        correction = Correction(CorrectionShape.model_validate(told["shape"]), lm.hidden_size)
        correction.load_state_dict(tensors)
    except (KeyError, ValidationError, RuntimeError) as error:
        raise CorrectionError(f"{folder / NAME}: its networks are not what it says ({error}); {REMEDY}") from error
    return correction.to(lm.device).requires_grad_(False)


_resident: WeakKeyDictionary[FrozenLM, dict[tuple[Path, str], Correction]] = WeakKeyDictionary()


def resident_correction(folder: Path, lm: FrozenLM, digest: str) -> Correction:
    """`load_correction`, once for as long as the model is there."""
    loaded = _resident.setdefault(lm, {})
    if (folder, digest) not in loaded:
        loaded[folder, digest] = load_correction(folder, lm, digest)
    return loaded[folder, digest]
