"""`verbatim report`: a run's folder in, a website in a folder out.

Owns: what the page is told, its files. Must not know: how the page shows it.

    SITE/index.html report.css *.js      the same for every run
    SITE/data.js                         this run; texts, ids and names in it are data and never markup

Nothing is asked of a server: the page opens from a disk, and it is told to make no connection.
"""

import base64
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.model_source import ModelSource
from orchestrator.console.errors import UserError
from orchestrator.report.chosen import MOST_CHARACTERS, NAMED, ROUNDED, Chosen, Window, told
from orchestrator.report.figures import Figures
from orchestrator.report.files import PAGE, SITE, site_folder, write_site
from orchestrator.report.looked import Looker, Measured
from orchestrator.report.numbered import HOLDING_TOKENS, number_tokens
from orchestrator.results import run_record
from orchestrator.results.history import read_history
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.proof_file import read_rungs
from orchestrator.results.run_record import RunRecord
from orchestrator.storage.location import Location, absolute, name_of

MOST_HISTORY = 400_000
"""Bytes of steps on a page, those of texts that are not exact first. Encoded they take a third more."""

COLUMNS = [
    "id", "row", "text", "token_ids", "generated_ids", "exact", "num_vectors", "steps", "positions", "attempts",
    "first_mismatch", *NAMED, *ROUNDED,
]  # fmt: skip


@dataclass(frozen=True)
class ReportOptions:
    """What the command line asks for.

    Attributes:
        out: the website's folder; None is `report` in the run's folder.
        against: another run, shown beside this one; None is none.
        margins: whether to load the model and measure every token's margin.
        refresh_s: seconds after which the page asks for itself anew; None is never.
    """

    folder: Location
    out: Path | None = None
    against: Location | None = None
    margins: bool = False
    refresh_s: float | None = None


@dataclass(frozen=True)
class Report:
    """What was written."""

    page: Path
    num_texts: int
    num_left_out: int
    num_bytes: int

    def line(self) -> str:
        left_out = f", {self.num_left_out} more only in the figures" if self.num_left_out else ""
        return f"report: {self.page} ({self.num_texts} texts{left_out}, {self.num_bytes / 1000:,.0f} kB)"


def write_report(options: ReportOptions) -> Report:
    """Read a run and write its page.

    Raises:
        UserError: not a run's folder, no rows, a damaged part, or no place for the page.
        ModelError: margins are asked for and the model cannot be had.
    """
    record = run_record.require_record(options.folder)
    site = site_folder(options.folder, options.out)
    ledger = Ledger(options.folder)
    figures, chosen = _gathered(options.folder, ledger)
    rows = chosen.rows
    looked = Looker(record).look(ledger, {row["id"] for row in rows}) if options.margins else {}
    texts = told(rows) | _columns(rows, looked) | _histories(options.folder, rows)
    data = {
        "run": _run(options.folder, record),
        "figures": figures.told() | {"ladder": read_rungs(options.folder)},
        "tokens": number_tokens(texts, ModelSource(record.model.name, record.model.revision)),
        "texts": texts,
        "num_left_out": chosen.num_left_out,
        "most_characters": MOST_CHARACTERS,
        "refresh_s": options.refresh_s,
        "against": None if options.against is None else _other(options.against, {row["id"] for row in rows}),
    }
    num_bytes = write_site(site, SITE.iterdir(), data)
    return Report(site / PAGE, len(rows), chosen.num_left_out, num_bytes)


def _gathered(folder: Location, ledger: Ledger) -> tuple[Figures, Chosen]:
    figures, chosen = Figures(), Chosen()
    for row in ledger.read(COLUMNS):
        figures.add(row)
        chosen.add(row)
    if not chosen.rows:
        raise UserError(f"{folder}: no committed rows yet; let the run go on first")
    return figures, chosen


def _run(folder: Location, record: RunRecord) -> dict[str, Any]:
    """What the page says about the run itself; a page may go to other people, so of a path its last part is enough."""
    model = record.model.name
    return {
        "name": name_of(absolute(folder)).name,
        "command": f"verbatim decode {shlex.quote(str(folder))} --id",
        "corpus": name_of(record.corpus).name,
        "model": model if not model.startswith(("/", "~", ".")) else name_of(model).name,
        "revision": record.model.revision,
        "fingerprint": record.model.fingerprint,
        "solver_dtype": record.model.solver_dtype,
        "device": record.model.device,
        "engine": record.engine,
        "engine_dtype": record.engine_dtype,
        "proof": record.proof,
        "recipe_hash": record.recipe_hash,
        "stop_margin": record.stop_margin,
        "state": record.state,
        "num_rows": record.num_rows,
        "started": record.started,
        "updated": record.updated,
        "seconds": round(record.seconds, 1),
        "versions": list(record.versions.items()),
    }


def _columns(rows: list[Row], looked: dict[str, Measured]) -> dict[str, Any]:
    """What was measured, by row; nothing at all where nothing was."""
    if not looked:
        return {}
    names = next(iter(looked.values()))
    return {name: [looked.get(row["id"], {}).get(name) for row in rows] for name in names}


def _histories(folder: Location, rows: list[Row]) -> dict[str, Any]:
    """The steps of texts whose way was kept, within what a page may take; nothing at all where none was."""
    found = read_history(folder, {row["id"]: len(row["token_ids"] or ()) for row in rows})
    told: dict[str, Any] = {}
    room = MOST_HISTORY
    for row in sorted((row for row in rows if row["id"] in found), key=lambda row: bool(row["exact"])):
        steps, frames = found[row["id"]]["steps"], found[row["id"]]["frames"]
        shown = b"".join(bytes(Window.of(row).cut(frame) or ()) for frame in frames)
        room -= len(shown)
        if room < 0:
            break
        told[row["id"]] = {"steps": steps, "margins": base64.b64encode(shown).decode()}
    return {"history": [told.get(row["id"]) for row in rows]} if told else {}


def _other(folder: Location, ids: set[str]) -> dict[str, Any]:
    """Another run's figures, and what became of the same texts there."""
    record = run_record.require_record(folder)
    figures, rows = Figures(), []
    for row in Ledger(folder).read(COLUMNS):
        figures.add(row)
        if row["id"] in ids:
            rows.append(row)
    texts = {name: column for name, column in told(rows).items() if name not in ("text", *HOLDING_TOKENS)}
    return {"run": _run(folder, record), "figures": figures.told(), "texts": texts}
