"""Bringing prompts and checkpoints from Ray's store to where they are read.

Owns: asking for each block once, what is lost. Must not know: who reads them, why; torch, since who writes parts has no
other use for it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from engine.elsewhere import Elsewhere, StateElsewhere

Block = list[np.ndarray]
"""(K, D) float32 arrays, or bytes of checkpoints."""

FETCH_S = 120.0
"""Seconds after which a block counts as lost: a node's death is known within half a minute. Assumption."""


def brought(things: Iterable[Any]) -> list[Any]:
    """Each thing as a read-only view of Ray's store, None where it is lost; what was here already as it is.

    Each block is asked for once.
    """
    asked = list(things)
    refs = list({thing.place: None for thing in asked if isinstance(thing, Elsewhere | StateElsewhere)})
    blocks = dict(zip(refs, _blocks(refs), strict=True))
    return [_from_its_block(thing, blocks) for thing in asked]


def _from_its_block(thing: Any, blocks: dict[Any, Block | None]) -> Any:
    if not isinstance(thing, Elsewhere | StateElsewhere):
        return thing
    block = blocks[thing.place]
    return None if block is None else block[thing.index]


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


@ray.remote(num_cpus=0, max_retries=3)
def copied(block: Block) -> Block:
    """The same block, in the store of the node where this runs."""
    return block
