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
from orchestrator.cluster.nodes import only_on

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


def copied_here(block_ref: Any) -> Any:
    """A reference to the same block in the store of this node, where it outlives the node that it comes from."""
    node = ray.get_runtime_context().get_node_id()
    return _copied.options(scheduling_strategy=only_on(node), name="copy").remote(block_ref)


@ray.remote(num_cpus=0, max_retries=0)
def _copied(block: Block) -> Block:
    return block
