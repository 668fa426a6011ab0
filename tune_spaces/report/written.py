"""`verbatim report` on a search's folder: the folder in, a website in a folder out, in the house of a run's report.

Owns: which files the page is of. Must not know: what it is told, how it shows it.
"""

from pathlib import Path

import optuna

from orchestrator.console.errors import UserError
from orchestrator.report.files import PAGE, SITE, site_folder, write_site
from tune_spaces.hold_out import Comparison, read_comparison
from tune_spaces.record import TuneRecord, read_record
from tune_spaces.report.told import told
from tune_spaces.study import read_study

PARTS = ("report.css", "dom.js", "charts.js")
"""Of a run's page."""

OWN = Path(__file__).with_name("site")


def write_search_report(folder: Path, out: Path | None = None) -> Path:
    """Read a search, whether it has ended or not, and write its page; the page.

    Raises:
        UserError: no search's folder, nothing tried yet, a damaged file, or no place for the page.
    """
    record, study = read_record(folder), read_study(folder)
    if record is None or study is None or not study.get_trials(deepcopy=False):
        raise UserError(f"{folder}: a search without trials yet; the same `verbatim tune` goes on")
    return write_page(folder, study, record, read_comparison(folder), out=out)


def write_page(
    folder: Path,
    study: optuna.Study,
    record: TuneRecord,
    comparison: Comparison | None,
    note: str | None = None,
    state: str | None = None,
    out: Path | None = None,
) -> Path:
    """The page of a search that is at hand.

    Args:
        note: what is to be known besides, as a sentence without its full stop.
        state: of the search; None is what its folder says.
    """
    site = site_folder(folder, out)
    parts = [*(SITE / name for name in PARTS), *OWN.iterdir()]
    write_site(site, parts, told(folder, study, record, comparison, note, state))
    return site / PAGE
