"""The task that writes a part, in a process of its own on the driver's node.

Owns: what becomes of one try. Must not know: when parts are due, which count. It imports little: each run starts such a
process, and the engine would take it ten times as long.
"""

import os
from dataclasses import dataclass

import ray
from ray import ObjectRef

from orchestrator.console.errors import StorageError
from orchestrator.fleet.brought import brought
from orchestrator.process.fail_points import fail_point
from orchestrator.results.columns import PROMPT, Row
from orchestrator.results.part_file import write_part
from orchestrator.storage import Storage
from orchestrator.storage.location import stores_variables


@dataclass(frozen=True)
class Written:
    """What a task came to.

    Attributes:
        part: its name; None where it was not written.
        lost: which of its rows, by place, have no prompt any more; nothing was written then.
        refusal: the store's, or the disk's.
    """

    part: str | None = None
    lost: tuple[int, ...] = ()
    refusal: Exception | None = None


@dataclass(frozen=True)
class Folder:
    """A run's folder as another process takes it up, which a cluster may have started in another environment.

    Attributes:
        storage: reference to it; an object store is connected to where it is taken up, so not before `variables` are
            set.
        variables: of the environment, that say how stores are reached.
    """

    storage: ObjectRef[Storage]
    variables: dict[str, str]

    @classmethod
    def of(cls, storage: Storage) -> "Folder":
        return cls(ray.put(storage), stores_variables())

    def open(self) -> Storage:
        os.environ.update(self.variables)
        return ray.get(self.storage)


@ray.remote(num_cpus=0, max_retries=0)
def write(folder: Folder, number: int, rows: list[Row]) -> Written:
    """Write one part, in a process of its own."""
    prompts = brought(row[PROMPT] for row in rows)
    lost = tuple(i for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)) if prompt is None and row[PROMPT])
    if lost:
        return Written(lost=lost)
    whole = [
        row | {PROMPT: None if prompt is None else prompt.reshape(-1)}
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    try:
        part = write_part(folder.open(), number, whole, is_alone=False)
    except (OSError, StorageError) as error:
        return Written(refusal=error)
    fail_point("writing.before_answer")
    return Written(part)
