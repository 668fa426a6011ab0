"""How far a search is, from its folder's files alone, live or after the fact.

Owns: reading them together, the lines. Must not know: Ray, how trials run.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.console.errors import UserError
from orchestrator.console.terminal import say, say_json
from orchestrator.results.run_log import last_event
from orchestrator.results.status import told_event, told_state
from orchestrator.storage import open_storage
from orchestrator.storage.location import Location
from tune_spaces import results
from tune_spaces.folder import FILE
from tune_spaces.progress import Progress, read_progress
from tune_spaces.record import read_record
from tune_spaces.study import ended_trials, read_study, winner
from tune_spaces.table import LABELS, told


@dataclass(frozen=True)
class SearchStatus:
    """State of a search's folder.

    Attributes:
        state: `running`, `interrupted` or `finished`; `killed` where it should be running and nobody holds the folder;
            None of a folder from before this was kept.
        writer: the process that is running.
        num_trials: asked for, or None.
        num_ended: trials that count.
        counts: of them by how they ended.
        best: the cheapest complete trial, in a line; None without one.
        trials_an_hour: over all calls, since models were loaded; None before the first has ended.
        last_event: the log's last line.
    """

    folder: str
    state: str | None
    num_trials: int | None
    num_ended: int
    counts: dict[str, int]
    best: str | None
    corpus: str
    texts: int
    model: str
    engine: str
    engine_dtype: str
    started: str | None
    updated: str | None
    seconds: float | None
    trials_an_hour: float | None
    last_event: dict[str, Any] | None
    writer: str | None


def search_status(folder: Path, place: Location) -> SearchStatus:
    """The state of a search's folder.

    Args:
        place: where it lies, if what is looked at is a copy.
    Raises:
        UserError: it is none, or a file of it is damaged.
    """
    record, progress, study = read_record(folder), read_progress(folder), read_study(folder)
    if record is None:
        raise UserError(f"{place}: no {FILE} there; give the folder of a search")
    ended = ended_trials(study) if study else []
    best = winner(study) if study else None
    rate = 3600 * len(ended) / progress.seconds if progress and progress.seconds and ended else None
    writer = open_storage(place).writer()
    return SearchStatus(
        folder=str(place),
        state=_state(folder, progress, writer),
        num_trials=progress.trials if progress else None,
        num_ended=len(ended),
        counts=dict(Counter(LABELS[trial.state] for trial in ended)),
        best=told(best) if best is not None else None,
        corpus=record.corpus, texts=record.num_texts, model=record.model,
        engine=record.engine, engine_dtype=record.engine_dtype,
        started=progress.started if progress else None,
        updated=progress.updated if progress else None,
        seconds=progress.seconds if progress else None,
        trials_an_hour=rate,
        last_event=last_event(folder), writer=writer,
    )  # fmt: skip


def _state(folder: Path, progress: Progress | None, writer: str | None) -> str | None:
    if progress is None:
        return "finished" if (folder / results.REPORT).is_file() else None
    return "killed" if progress.state == "running" and writer is None else progress.state


def print_search_status(status: SearchStatus, console: Console, *, as_json: bool) -> None:
    """As JSON, or in lines."""
    if as_json:
        say_json(asdict(status))
        return
    counts = ", ".join(f"{count} {name}" for name, count in sorted(status.counts.items())) or "none yet"
    of = "" if status.num_trials is None else f" of {status.num_trials}"
    state = told_state(status.state, status.writer) if status.state else "of an earlier version"
    lines = [
        f"{status.folder}: a search, {state}",
        f"{status.num_ended}{of} trials ended ({counts})",
        f"{status.texts} texts of {status.corpus} on {status.model}, verified by {status.engine} in "
        f"{status.engine_dtype}",
    ]
    if status.seconds is not None:
        rate = "" if status.trials_an_hour is None else f", {status.trials_an_hour:.0f} trials an hour"
        lines.append(f"started {status.started}, updated {status.updated}, {status.seconds:.0f} s of searching{rate}")
    if status.best is not None:
        lines.append(f"best: {status.best}")
    if status.last_event:
        lines.append(f"last event: {told_event(status.last_event)}")
    for line in lines:
        say(console, line)
