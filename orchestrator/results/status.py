"""`verbatim status`: how far a run is, from its files alone, live or after the fact.

Owns: reading a folder's record and manifest. Must not know: Ray.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from orchestrator.console.terminal import printable, say, say_json
from orchestrator.results import run_record
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_log import last_event, read_events
from orchestrator.results.run_record import RunRecord
from orchestrator.storage import open_storage
from orchestrator.storage.location import Location

RATE_WINDOW = timedelta(minutes=5)


@dataclass(frozen=True)
class Status:
    """State of a run's folder.

    Attributes:
        state: `running`, `interrupted` or `finished`, as `run.json` says; `killed` where it says running and nobody
            holds the folder.
        writer: the process that is running.
        num_committed: rows in the manifest.
        counts: committed rows by status, from `run.json`'s last update.
        retries: texts sent round again, by cause, from there too.
        texts_a_minute: over the last minutes, until now while it is running, else until its last event; over the
            whole run where there is no log; None before the first commit.
        last_event: the log's last line.
    """

    folder: str
    state: str
    num_rows: int
    num_committed: int
    counts: dict[str, int]
    corpus: str
    model: str
    engine: str
    engine_dtype: str
    started: str
    updated: str
    seconds: float
    retries: dict[str, int]
    texts_a_minute: float | None
    last_event: dict[str, Any] | None
    writer: str | None = None


def read_status(folder: Location) -> Status:
    """Raises UserError where the folder is not a run's."""
    record, writer = _record_and_writer(folder)
    last = last_event(folder)
    is_killed = record.state == "running" and writer is None
    rate = _recent_rate(folder, record, last, is_running=writer is not None)
    if rate is None and record.seconds > 0:
        rate = sum(record.counts.values()) / record.seconds * 60
    return Status(
        folder=str(folder), state="killed" if is_killed else record.state, num_rows=record.num_rows,
        num_committed=sum(entry["rows"] for entry in Ledger(folder).entries()), counts=record.counts,
        corpus=record.corpus, model=record.model.name, engine=record.engine, engine_dtype=record.engine_dtype,
        started=record.started, updated=record.updated, seconds=record.seconds, retries=record.retries,
        texts_a_minute=rate, last_event=last, writer=writer,
    )  # fmt: skip


def _record_and_writer(folder: Location) -> tuple[RunRecord, str | None]:
    """What the folder says of itself, and who writes there."""
    record = run_record.require_record(folder)
    writer = open_storage(folder).writer()
    if record.state == "running" and writer is None:
        record = run_record.require_record(folder)  # it may have ended between the two looks
    return record, writer


def _recent_rate(folder: Location, record: RunRecord, last: dict[str, Any] | None, *, is_running: bool) -> float | None:
    """Texts a minute committed in the window that ends with the last event, or now; None where the log has none."""
    end = datetime.fromisoformat(last["time"]) if last and not is_running else datetime.now(UTC)
    begin, count = end - RATE_WINDOW, 0
    for event in read_events(folder, "started", "committed"):
        at = datetime.fromisoformat(event["time"])
        if at > begin and event["event"] == "started":
            begin, count = at, 0  # what lies before was another call, or nothing
        elif at > begin:
            count += event["count"]
    is_silent = not count and datetime.fromisoformat(record.updated) > begin  # written at a higher level, or not at all
    minutes = (end - begin).total_seconds() / 60
    return None if is_silent or last is None or minutes <= 0 else count / minutes


def print_status(status: Status, console: Console, *, as_json: bool) -> None:
    if as_json:
        say_json(asdict(status))
        return
    for line in status_lines(status):
        say(console, line)


def status_lines(status: Status) -> list[str]:
    """How far it is, for a person."""
    counts = ", ".join(f"{count} {name}" for name, count in sorted(status.counts.items())) or "none yet"
    rate = "" if status.texts_a_minute is None else f", {status.texts_a_minute:.1f} texts a minute"
    retries = ", ".join(f"{count} {cause}" for cause, count in sorted(status.retries.items())) or "none"
    lines = [
        f"{status.folder}: {told_state(status.state, status.writer)}",
        f"{status.num_committed} of {status.num_rows} rows committed ({counts})",
        f"{status.corpus} on {status.model}, verified by {status.engine} in {status.engine_dtype}",
        f"started {status.started}, last commit {status.updated}, {status.seconds:.0f} s in the loop{rate}",
        f"retries: {retries}",
    ]
    if status.last_event:
        lines.append(f"last event: {told_event(status.last_event)}")
    return lines


def told_state(state: str, writer: str | None) -> str:
    """A state for a person, with what to do about it."""
    told = {
        "running": f"running ({writer})",
        "killed": "killed (nobody writes there); the same command goes on from there",
        "interrupted": "interrupted; the same command goes on from there",
    }
    return told.get(state, state)


def told_event(event: dict[str, Any]) -> str:
    """A line of the log: `2026-11-21T10:00:00.123Z retried, id row-3, cause unsolved`, safe for a terminal."""
    facts = [f"{key} {value}" for key, value in event.items() if key not in ("time", "level", "event")]
    return printable(", ".join([f"{event['time']} {event['event']}", *facts]))
