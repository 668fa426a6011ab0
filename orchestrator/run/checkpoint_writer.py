"""The task that renews a run's checkpoints, in a process of its own on the driver's node.

Owns: what becomes of one try. Must not know: when it is due, what a checkpoint holds. It imports little, as
`part_writer`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from orchestrator.console.errors import StorageError
from orchestrator.fleet.brought import brought
from orchestrator.run.part_writer import Folder


@dataclass(frozen=True)
class Renewed:
    """What a task came to.

    Attributes:
        num_lost: checkpoints that are not there any more to be written.
        num_bytes: written.
        seconds: that writing took.
        refusal: the store's, or the disk's; some may have been written or taken away all the same.
    """

    num_lost: int = 0
    num_bytes: int = 0
    seconds: float = 0.0
    refusal: Exception | None = None


@ray.remote(num_cpus=0, max_retries=3)
def renew(folder: Folder, checkpoints: Mapping[str, Any], dropped: Sequence[str]) -> Renewed:
    """Write checkpoints, each in place of the one before, and take others away; by name within the folder."""
    num_lost, num_bytes, seconds = 0, 0, 0.0
    try:
        storage = folder.open()
        storage.delete(dropped)
        for block in _by_block(checkpoints):
            contents = dict(zip(block, brought(block.values()), strict=True))
            files = {name: bytes(content) for name, content in contents.items() if content is not None}
            started = time.monotonic()
            storage.replace(files)
            seconds += time.monotonic() - started
            num_lost += len(contents) - len(files)
            num_bytes += sum(map(len, files.values()))
    except (OSError, StorageError) as error:
        return Renewed(refusal=error)
    return Renewed(num_lost, num_bytes, seconds)


def _by_block(checkpoints: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of one answer at a time: all solvers' would fill the memory."""
    blocks: dict[Any, dict[str, Any]] = {}
    for name, state in checkpoints.items():
        blocks.setdefault(getattr(state, "place", None), {})[name] = state
    yield from blocks.values()
