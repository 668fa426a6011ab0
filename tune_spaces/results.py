"""What a search leaves in its folder, beside its record, its study and the outcomes.

Owns: best.toml, trials.parquet, and when the report is written. Must not know: Ray, how recipes were found.
"""

import json
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial

from engine.recipe import Recipe, to_toml
from orchestrator.console.errors import UserError
from orchestrator.storage import open_storage
from orchestrator.storage.location import Location
from tune_spaces.folder import is_search
from tune_spaces.hold_out import Comparison
from tune_spaces.record import TuneRecord
from tune_spaces.report import render
from tune_spaces.study import RETRY_OF, winner

BEST, TRIALS, REPORT = "best.toml", "trials.parquet", "report.html"

SCHEMA = pa.schema(
    [
        ("number", pa.int64()),  # Optuna's
        ("state", pa.string()),  # complete; pruned: stopped before its last text; fail; running, waiting
        ("cost", pa.float64()),  # mean passes to a verified exact text, the budget where it never came
        ("exact_frac", pa.float64()),  # share of the texts seen that were verified
        ("margin", pa.float64()),  # mean smallest margin, logits; 0 for a text that is not exact
        ("positions", pa.int64()),  # passed forward and backward
        ("texts", pa.int64()),  # seen before it ended
        ("params", pa.string()),  # drawn, JSON: recipe key to value
        ("recipe", pa.string()),  # whole, JSON
        ("retry_of", pa.int64()),  # number of the trial whose search died and whose parameters this one took up
        ("started", pa.timestamp("ms")),
        ("seconds", pa.float64()),  # wall time, shared with the trials beside it
    ]
)


def write(
    folder: Path,
    study: optuna.Study,
    record: TuneRecord,
    best: Recipe,
    comparison: Comparison | None,
    note: str | None = None,
) -> None:
    """Everything a search is run for, each file replaced in one step, the report last.

    Args:
        note: what is to be known besides, as a sentence without its full stop.
    """
    trials = pa.BufferOutputStream()
    rows = [_row(trial) for trial in study.trials]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), trials, write_page_checksum=True)
    files = {
        TRIALS: trials.getvalue().to_pybytes(),
        BEST: to_toml(best, header=_header(study, record, comparison, note)).encode(),
        REPORT: render(study, record, best, comparison, note).encode(),
    }
    open_storage(folder).replace(files)


def report_of(folder: Location) -> Path | None:
    """A search's own report, in its folder; None where that is no search's.

    Raises:
        UserError: the search has not come to its end.
    """
    if not isinstance(folder, Path) or not is_search(folder):
        return None
    if not (folder / REPORT).is_file():
        raise UserError(f"{folder}: a search that has written no report yet; the same `verbatim tune` goes on")
    return folder / REPORT


def _header(study: optuna.Study, record: TuneRecord, comparison: Comparison | None, note: str | None) -> str:
    """Where the recipe comes from, as comments."""
    best = winner(study)
    lines = [f"Study {record.study_name}: {record.texts} texts of {Path(record.corpus).name}, model {record.model}."]
    if best is not None:
        lines.append(f"Trial {best.number}: {best.user_attrs['cost']:.1f} passes a text, budget {record.budget:g}.")
    if comparison is not None:
        lines.append(comparison.verdict[0].upper() + comparison.verdict[1:] + ".")
    if note is not None:
        lines.append(note + ".")
    return "\n".join(lines)


def _row(trial: FrozenTrial) -> dict[str, Any]:
    figures = {name: trial.user_attrs.get(name) for name in ("cost", "exact_frac", "margin", "positions", "texts")}
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        **figures,
        "params": json.dumps(trial.params),
        "recipe": trial.user_attrs.get("recipe"),
        "retry_of": trial.user_attrs.get(RETRY_OF),
        "started": trial.datetime_start,
        "seconds": trial.duration.total_seconds() if trial.duration else None,
    }
