"""The task that renews a run's checkpoints, in a process of its own on the driver's node.

Owns: what becomes of one try. Must not know: when it is due, what a checkpoint holds. It imports little, as
`part_writer`.
"""

import time
from collections.abc import Mapping, Sequence
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
        num_bytes: written.
        seconds: that this took.
        refusal: the store's, or the disk's; some may have been written or taken away all the same.
    """

    num_bytes: int
    seconds: float
    refusal: Exception | None = None


@ray.remote(num_cpus=0, max_retries=0)
def renew(folder: Folder, checkpoints: Mapping[str, Any], dropped: Sequence[str]) -> Renewed:
    """Write checkpoints, each in place of the one before, and take others away; by name within the folder."""
    contents = zip(checkpoints, brought(checkpoints.values()), strict=True)
    files = {name: bytes(content) for name, content in contents if content is not None}
    started, refusal = time.monotonic(), None
    try:
        storage = folder.open()
        storage.replace(files)
        storage.delete(dropped)
    except (OSError, StorageError) as error:
        refusal = error
    return Renewed(sum(map(len, files.values())), time.monotonic() - started, refusal)
