"""`verbatim status`: how far a run is, from its files alone, live or after the fact.

Owns: reading a folder's record and manifest. Must not know: Ray.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from orchestrator import run_record
from orchestrator.ledger import Ledger


@dataclass(frozen=True)
class Status:
    """State of a run's folder.

    Attributes:
        state: `running`, `interrupted` or `finished`, as `run.json` says.
        num_committed: rows in the manifest.
        counts: committed rows by status, from `run.json`'s last update.
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


def read_status(folder: Path) -> Status:
    """Raises UserError where the folder is not a run's."""
    record = run_record.require_record(folder)
    return Status(
        folder=str(folder), state=record.state, num_rows=record.num_rows,
        num_committed=sum(entry["rows"] for entry in Ledger(folder).entries()), counts=record.counts,
        corpus=record.corpus, model=record.model.name, engine=record.engine, engine_dtype=record.engine_dtype,
        started=record.started, updated=record.updated, seconds=record.seconds,
    )  # fmt: skip


def print_status(status: Status, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(run_record.dump(asdict(status)))
        return
    counts = ", ".join(f"{count} {name}" for name, count in sorted(status.counts.items())) or "none yet"
    lines = (
        f"{status.folder}: {status.state}, {status.num_committed} of {status.num_rows} rows committed ({counts})",
        f"{status.corpus} on {status.model}, verified by {status.engine} in {status.engine_dtype}",
        f"started {status.started}, last commit {status.updated}, {status.seconds:.0f} s in the loop",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
