"""Results of this process as a results folder.

Owns: their record, and writing both. Must not know: how results came to be.
"""

from collections import Counter

from engine.capacity import VectorPlan
from engine.recipe import Recipe
from orchestrator.results import run_record
from orchestrator.results.ledger import SCHEMA_VERSION, Ledger, Row
from orchestrator.results.run_record import ModelRecord, RunRecord
from orchestrator.storage.location import Location
from verbatim.errors import VerbatimError

CORPUS = "python"
"""What stands in a record where a run has its corpus: the texts were in memory."""


def made_in_memory(
    model: ModelRecord,
    recipe: Recipe,
    plan: VectorPlan | None,
    *,
    engine: str,
    engine_dtype: str,
    stop_margin: float,
    seconds: float,
) -> RunRecord:
    """The record of one call; its counts are filled in when it is saved."""
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        state="finished",
        corpus=CORPUS,
        text_column="text",
        id_column="id",
        num_rows=0,
        model=model,
        recipe=recipe,
        recipe_hash=recipe.hash,
        seed=recipe.seed,
        vector_plan=list(plan.points) if plan else None,
        engine=engine,
        engine_dtype=engine_dtype,
        stop_margin=stop_margin,
        versions=run_record.installed_versions(),
        python=run_record.python_version(),
        started=run_record.now(),
        updated=run_record.now(),
        counts={},
        seconds=seconds,
    )


def save(rows: list[Row], record: RunRecord, folder: Location) -> None:
    """Write rows and record to a folder that holds nothing yet.

    Raises:
        VerbatimError, UserError: it does.
    """
    if not rows:
        raise VerbatimError(f"folder = {str(folder)!r}: there are no results to save")
    if run_record.read_record(folder) is not None:
        raise VerbatimError(f"folder = {str(folder)!r}: holds a run already; choose another")
    counts = dict(Counter(row["status"] for row in rows))
    record.model_copy(update={"num_rows": len(rows), "counts": counts}).write(folder)
    Ledger(folder).commit(rows)
