"""An attempt under way as bytes that another process can go on from: safetensors and JSON, no pickle.

Owns: the format. Must not know: files, who keeps the bytes, when.

A checkpoint carries its job (recipe, vectors, number of the attempt) but for the text, which its reader must have.
Reading one of another text, of another version of this format or of a recipe that computes otherwise by now gives None,
and the text starts over.
"""

import json
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.certificate import Certificate
from engine.curriculum import Lesson
from engine.recipe import Recipe
from engine.slots import Job
from engine.snapshot import Snapshot
from engine.target import Target

VERSION = 4
RECORDS = {kind.__name__: kind for kind in (Certificate, Lesson, Snapshot)}
"""Records that a slot's state may hold; nothing else is ever built from a file."""

PLAIN = "plain"
"""Name of the tensor that holds everything that is not one, as JSON bytes."""


class Checkpoint(NamedTuple):
    """What an attempt goes on from: its slots' `state_dict`s, one a sibling, first to last."""

    job: Job
    states: list[dict[str, Any]]


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as one safetensors file."""
    tensors: dict[str, Tensor] = {}
    job = checkpoint.job
    plain = {
        "version": VERSION,
        "id": job.target.id,
        "token_ids": list(job.target.token_ids),
        "recipe": job.recipe.model_dump(mode="json"),
        "recipe_hash": job.recipe.hash,
        "num_vectors": job.num_vectors,
        "attempt": job.attempt,
        "member": job.member,
        "focus": list(job.focus),
        "is_objected": job.is_objected,
        "states": _plain(checkpoint.states, "states", tensors),
    }
    tensors[PLAIN] = torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8)
    return save(tensors)


def from_bytes(content: bytes, target: Target) -> Checkpoint | None:
    """The checkpoint of an attempt at exactly this text, or None for anything else, a torn or foreign file included.

    The job has no start: its slots' states hold the prompts.
    """
    try:
        tensors = load(content)
        plain = json.loads(bytes(tensors[PLAIN].tolist()))
        if (plain["version"], plain["id"], tuple(plain["token_ids"])) != (VERSION, target.id, target.token_ids):
            return None
        recipe = Recipe.model_validate(plain["recipe"])
        if plain["recipe_hash"] != recipe.hash:
            return None
        job = Job(
            target, recipe, plain["num_vectors"], plain["attempt"],
            focus=tuple(plain["focus"]), is_objected=plain.get("is_objected", False), member=plain["member"],
        )  # fmt: skip
        return Checkpoint(job, _rebuilt(plain["states"], tensors))
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _plain(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for a value; its tensors go into `tensors` under their paths."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(value, tuple(RECORDS.values())):
        fields = value._asdict() if isinstance(value, Certificate) else vars(value)
        return {"record": type(value).__name__, "fields": _plain(fields, path, tensors)}
    if isinstance(value, dict):
        return {"dict": {key: _plain(item, f"{path}.{key}", tensors) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"list": [_plain(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
    assert value is None or isinstance(value, (bool, int, float, str)), f"{path}: {type(value)} has no place in a state"
    return value


def _rebuilt(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "record" in value:
        return RECORDS[value["record"]](**_rebuilt(value["fields"], tensors))
    if "dict" in value:
        return {key: _rebuilt(item, tensors) for key, item in value["dict"].items()}
    return [_rebuilt(item, tensors) for item in value["list"]]
