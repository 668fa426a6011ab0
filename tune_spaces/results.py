"""What a search leaves in its folder, beside its record, its study and the outcomes.

Owns: best.toml, trials.parquet, any trial's recipe, and when the report is written. Must not know: Ray, how recipes
were found.
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
from tune_spaces.headline import headline
from tune_spaces.hold_out import Comparison, kept_comparison
from tune_spaces.record import TuneRecord, read_record
from tune_spaces.report.written import write_page
from tune_spaces.study import RETRY_OF, read_study, winner
from tune_spaces.table import state_and_figures

BEST, TRIALS = "best.toml", "trials.parquet"

REPORT = "report.html"
"""What a search of an earlier version wrote last."""

SCHEMA = pa.schema(
    [
        ("number", pa.int64()),  # Optuna's
        ("state", pa.string()),  # complete; pruned: stopped before its last text; fail; running, waiting
        ("cost", pa.float64()),  # mean passes to a verified exact text, the budget where it never came
        ("exact_frac", pa.float64()),  # share of the texts seen that were verified
        ("margin", pa.float64()),  # mean smallest margin, logits; 0 for a text that is not exact
        ("positions", pa.int64()),  # passed forward and backward
        ("texts", pa.int64()),  # seen before it ended
        ("prefix_tokens", pa.float64()),  # mean longest exact prefix of the texts that ended, as the solver saw it
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
    state: str = "finished",
) -> Path:
    """Everything a search is run for, each file replaced in one step, the report last; the report.

    Args:
        note: what is to be known besides, as a sentence without its full stop.
        state: in which it leaves the search.
    """
    trials = pa.BufferOutputStream()
    rows = [_row(trial) for trial in study.trials]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), trials, write_page_checksum=True)
    files = {
        TRIALS: trials.getvalue().to_pybytes(),
        BEST: to_toml(best, header=_header(study, record, comparison, note)).encode(),
        **kept_comparison(comparison),
    }
    open_storage(folder).replace(files)
    return write_page(folder, study, record, comparison, note, state)


def _header(study: optuna.Study, record: TuneRecord, comparison: Comparison | None, note: str | None) -> str:
    """Where the recipe comes from, as comments."""
    best = winner(study)
    told = headline(study, record.base, comparison, note)
    lines = [told[0].upper() + told[1:] + ".", _origin(record)]
    if best is not None:
        lines.append(f"Trial {best.number}: {best.user_attrs['cost']:.1f} passes a text, budget {record.budget:g}.")
    return "\n".join(lines)


def export_trial(folder: Path, number: int) -> Path:
    """Write the recipe of one trial of a search as a file that `run` takes; the file.

    Raises:
        UserError: no search's folder, or no such trial in it.
    """
    record, study = read_record(folder), read_study(folder)
    if record is None or study is None:
        raise UserError(f"--export-trial {number}: {folder} holds no search with trials; give the folder of one")
    trials = study.get_trials(deepcopy=False)
    if number >= len(trials) or "recipe" not in trials[number].user_attrs:
        raise UserError(f"--export-trial {number}: no trial of {folder} with a recipe; it has 0 to {len(trials) - 1}")
    recipe = Recipe.model_validate_json(trials[number].user_attrs["recipe"])
    header = f"{state_and_figures(trials[number]).capitalize()}.\n{_origin(record)}"
    path = folder / f"trial-{number}.toml"
    open_storage(folder).replace({path.name: to_toml(recipe, header=header).encode()})
    return path


def _origin(record: TuneRecord) -> str:
    texts = f"{record.num_texts} texts of {Path(record.corpus).name}"
    return f"Study {record.study_name}: {texts}, model {record.model}."


def _row(trial: FrozenTrial) -> dict[str, Any]:
    figures = {
        name: trial.user_attrs.get(name)
        for name in ("cost", "exact_frac", "margin", "positions", "texts", "prefix_tokens")
    }
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
