"""What an earlier run of the same model came to: passes for a text, positions a second.

Owns: where such a run is looked for, which one is taken. Must not know: what is foretold from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from engine.capacity import VectorPlan
from engine.model_source import ModelSource
from engine.recipe import Recipe
from orchestrator.console.errors import UserError
from orchestrator.results import run_record
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_record import RunRecord
from orchestrator.storage.location import Location

MOST_FOLDERS = 50
"""Folders beside the run's own that are looked into, the newest first."""

MOST_ROWS = 10_000
"""Rows of each that are read."""

COLUMNS = ["token_ids", "num_vectors", "positions"]


@dataclass(frozen=True)
class Experience:
    """An earlier run of the same model.

    Attributes:
        is_same_recipe: whether its texts were tried as these will be.
        passes: of a text with its vectors, forward and backward, all attempts and siblings; the mean.
        rate: positions a second, over its whole loop on the device that it had.
        plan: vectors by length, if it measured them.
    """

    folder: str
    is_same_recipe: bool
    num_texts: int
    device: str
    passes: float
    rate: float
    plan: VectorPlan | None


def find_experience(out: Location, source: ModelSource, recipe: Recipe) -> Experience | None:
    """The run in this folder, or the newest beside it, on the same model; one under the same recipe is preferred."""
    found = None
    for folder in _folders(out):
        experience = _of(folder, source, recipe)
        if experience is not None and experience.is_same_recipe:
            return experience
        found = found or experience
    return found


def _folders(out: Location) -> Iterator[Location]:
    yield out
    if isinstance(out, Path):
        beside = [path for path in out.parent.glob(f"*/{run_record.FILE}") if path.parent != out]
        newest = sorted(beside, key=lambda path: path.stat().st_mtime, reverse=True)
        yield from (path.parent for path in newest[:MOST_FOLDERS])


def _of(folder: Location, source: ModelSource, recipe: Recipe) -> Experience | None:
    """None where the folder has nothing to tell, or is damaged: that is for those who need it to say."""
    try:
        record = run_record.read_record(folder)
        if record is None or (record.model.name, record.model.revision) != (source.name, source.revision):
            return None
        rows = list(islice(Ledger(folder).read(COLUMNS), MOST_ROWS))
    except (UserError, OSError):
        return None
    positions = sum(len(row["token_ids"]) + row["num_vectors"] for row in rows if row["num_vectors"])
    passed = sum(row["positions"] or 0 for row in rows)
    if not (positions and passed and record.seconds > 0):
        return None
    return Experience(
        folder=str(folder),
        is_same_recipe=record.recipe_hash == recipe.hash,
        num_texts=sum(record.counts.values()),
        device=record.model.device,
        passes=passed / positions,
        rate=passed / len(rows) * sum(record.counts.values()) / record.seconds,
        plan=_plan(record),
    )


def _plan(record: RunRecord) -> VectorPlan | None:
    return VectorPlan(tuple(record.vector_plan)) if record.vector_plan else None
