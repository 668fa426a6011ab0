"""Bringing prompts from Ray's store to where they are read.

Owns: asking for each block once, what is lost. Must not know: who reads them, why; torch, since who writes parts has no
other use for it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from engine.elsewhere import Elsewhere

Block = list[np.ndarray]
"""(K, D) float32 arrays."""

FETCH_S = 120.0
"""Seconds after which a block counts as lost: a node's death is known within half a minute. Assumption."""


def brought(prompts: Iterable[Any]) -> list[Any]:
    """Each prompt as a read-only view of Ray's store, None where it is lost; what was here already as it is.

    Each block is asked for once.
    """
    asked = list(prompts)
    refs = list({prompt.place: None for prompt in asked if isinstance(prompt, Elsewhere)})
    blocks = dict(zip(refs, _blocks(refs), strict=True))
    return [_prompt(prompt, blocks) for prompt in asked]


def _prompt(prompt: Any, blocks: dict[Any, Block | None]) -> Any:
    if not isinstance(prompt, Elsewhere):
        return prompt
    block = blocks[prompt.place]
    return None if block is None else block[prompt.index]


def _blocks(refs: list[Any]) -> list[Block | None]:
    """All at once, one by one where any of them is lost; asked for none, Ray would be started where there is none."""
    if not refs:
        return []
    try:
        return list(ray.get(refs, timeout=FETCH_S))
    except RayError:
        return [_block(ref) for ref in refs]


def _block(ref: Any) -> Block | None:
    try:
        return ray.get(ref, timeout=FETCH_S)
    except RayError:
        return None
