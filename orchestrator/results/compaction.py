"""Small parts made into few large ones when a run has ended.

Owns: which parts are worth it, that every row is there exactly once whatever is killed. Must not know: rows' meaning.

The merged parts are written and named by lines of the manifest that count for nothing; one more line puts them in the
place of all that came before. Only then are the old parts taken away. Rows keep their order, by which a reader that had
begun goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from orchestrator.process.fail_points import fail_point
from orchestrator.results.ledger import SCHEMA, read_batches
from orchestrator.results.manifest import Manifest
from orchestrator.results.part_file import write_parquet
from orchestrator.storage import open_storage
from orchestrator.storage.location import Location
from orchestrator.storage.protocol import RESULTS, Storage

FEWEST = 8
"""Parts below which none are merged."""

PART_BYTES = 128 << 20
"""Of a merged part, about: what object stores and readers like. Assumption."""

GROUP_BYTES = 32 << 20
"""Of a row group, unpacked."""


@dataclass
class Group:
    """Parts that become one: neighbours, so that rows keep their order."""

    names: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    num_bytes: int = 0


def compact(folder: Location) -> tuple[int, int] | None:
    """Merge the parts of a folder that this process alone writes to.

    Returns:
        parts before and after; None where there was nothing worth doing.
    Raises:
        OSError, ValueError: a part is missing or damaged; all is as it was.
        Superseded: another process writes there.
    """
    storage = open_storage(folder)
    manifest = Manifest(storage)
    sizes = {entry["part"]: _size(storage, entry["part"]) for entry in manifest.entries()}
    num_after = sum(1 for _ in _groups(manifest, sizes))
    is_worth_it = len(sizes) >= FEWEST and 2 * num_after <= len(sizes)
    if is_worth_it:
        _merge(storage, manifest, sizes)
    take_away(storage)
    return (len(sizes), num_after) if is_worth_it else None


def take_away(storage: Storage) -> None:
    """Delete the parts that others stand for, and those that no line will ever name."""
    there = storage.names(RESULTS)
    storage.delete([f"{RESULTS}/{name}" for name in Manifest(storage).unneeded(there)])


def _merge(storage: Storage, manifest: Manifest, sizes: dict[str, int]) -> None:
    first = manifest.count()
    for group in _groups(Manifest(storage), sizes):
        assert manifest.num_lines is not None
        name = group.names[0]
        if len(group.names) > 1:
            name = storage.write_part(manifest.num_lines, partial(write_parquet, _tables(storage, group)))
        fail_point("compaction.after_part")
        manifest.append({"merged": name, "rows": len(group.ids), "ids": group.ids})
    fail_point("compaction.after_lines")
    manifest.append({"merged_from": first})
    fail_point("compaction.after_close")


def _size(storage: Storage, part: str) -> int:
    with storage.open(f"{RESULTS}/{part}") as file:
        return file.size()


def _groups(manifest: Manifest, sizes: dict[str, int]) -> Iterator[Group]:
    """The parts that were there when `sizes` was made, as few as their sizes allow."""
    group = Group()
    for entry in manifest.entries():
        size = sizes[entry["part"]]
        if group.names and group.num_bytes + size > PART_BYTES:
            yield group
            group = Group()
        group.names.append(entry["part"])
        group.ids += entry["ids"]
        group.num_bytes += size
    if group.names:
        yield group


def _tables(storage: Storage, group: Group) -> Iterator[pa.Table]:
    """The rows of a group in pieces of a row group.

    Raises:
        ValueError: they are not those of the manifest.
    """
    waiting: list[pa.RecordBatch] = []
    ids: list[str] = []
    for part in group.names:
        for batch in read_batches(storage, part):
            whole = _whole(batch)
            ids += whole.column("id").to_pylist()
            waiting.append(whole)
            if sum(batch.nbytes for batch in waiting) >= GROUP_BYTES:
                yield pa.Table.from_batches(waiting, SCHEMA)
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting, SCHEMA)
    if ids != group.ids:
        raise ValueError(f"parts {group.names[0]} to {group.names[-1]} hold other rows than the manifest says")


def _whole(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with all columns, those empty that its part did not have."""
    columns = [
        batch.column(field.name) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
