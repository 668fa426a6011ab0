"""Every weight of a model has its place in the checkpoint, and every one of the checkpoint its place in the model.

Owns: what is counted as missing, left over or of another shape. Must not know: where a checkpoint lies, how it is read.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig

from engine.model_source import ModelError

META = torch.device("meta")

NO_NUMBERS = ("NotImplementedError", "meta tensors")
"""What torch says of an operation that needs the numbers of a tensor that has none."""


def account(skeleton: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What `from_pretrained` would report of a checkpoint with these tensors, found without any of their numbers.

    transformers itself places tensors without memory into the skeleton: renamed, stacked, split and tied as it would
    in earnest. The skeleton holds them afterwards.

    Args:
        skeleton: an unquantised model on torch's meta device.
        shapes: of the checkpoint's tensors by name.
    Returns:
        `missing_keys`, `unexpected_keys` and `mismatched_keys`.
    Raises:
        NotImplementedError: a conversion needs the numbers.
    """
    tensors: dict[str, Any] = {name: torch.empty(shape, device=META) for name, shape in shapes.items()}
    conversions: Any = get_model_conversion_mapping(skeleton)
    settings = LoadStateDictConfig(
        ignore_mismatched_sizes=True,
        device_map={"": META},
        dtype=torch.float32,
        weight_mapping=conversions,
    )
    found, _ = convert_and_load_state_dict_in_model(skeleton, tensors, settings)
    if any(sign in told for told in found.conversion_errors.values() for sign in NO_NUMBERS):
        raise NotImplementedError(f"{type(skeleton).__name__}: a conversion of its checkpoint needs the numbers")
    skeleton.tie_weights(missing_keys=found.missing_keys, recompute_mapping=False)
    skeleton._adjust_missing_and_unexpected_keys(found)
    return found.to_dict()


def require_whole(model: Any, info: Mapping[str, Any], *, is_part: bool) -> None:
    """Every weight of the model was in the checkpoint, and every weight of the checkpoint is in the model.

    What transformers itself declares ignorable (tied weights, rotary frequencies, heads for speculation) is not told
    here. A model that is the language part of a larger checkpoint leaves the other parts' weights over: of what is
    left over, only what lies inside one of its own modules is then an error.

    Raises:
        ModelError: what is missing, left over or of another shape, by name.
    """
    left_over = info["unexpected_keys"]
    if is_part:
        own = [f"{name}." for name, _ in model.base_model.named_children()]
        left_over = {key for key in left_over if _within_base(key, model.base_model_prefix).startswith(tuple(own))}
    shapes = [f"{name} {tuple(theirs)} for {tuple(ours)}" for name, theirs, ours in info["mismatched_keys"]]
    wrong = {
        "lacks {} of the weights that the model needs ({})": info["missing_keys"],
        "holds {} weights that the model has no place for ({})": left_over,
        "holds {} weights of another shape ({})": shapes,
    }
    told = [words.format(len(names), first_three(names)) for words, names in wrong.items() if names]
    if told:
        raise ModelError(
            f"the checkpoint {' and '.join(told)}: it is damaged, or config.json is another model's; download it "
            "again, or save the whole model with save_pretrained"
        )


def _within_base(key: str, prefix: str) -> str:
    return key.removeprefix(f"{prefix}.").removeprefix("language_model.").removeprefix(f"{prefix}.")


def first_three(names: Iterable[str]) -> str:
    """The first three names in order, and a sign that there are more."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")
