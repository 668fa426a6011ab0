"""A page as a folder of files: where it may lie, and writing it.

Owns: the files of a page, those of the house and its data. Must not know: what the data says.

    SITE/index.html report.css *.js      the same for every page of a kind
    SITE/data.js                         what this one shows; texts, ids and names in it are data and never markup
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.console.errors import UserError
from orchestrator.storage.location import Location, require_folder

SITE = Path(__file__).with_name("site")
DATA = "data.js"
PAGE = "index.html"
MARK = "verbatim report"
"""Stands in the page, so that a folder that holds an earlier one may be written over."""


def site_folder(folder: Location, out: Path | None) -> Path:
    """The folder of a page: free, or an earlier page's.

    Args:
        folder: what the page shows; `report` in it where nothing else is asked for.
    Raises:
        UserError: it lies in an object store, or it holds something else.
    """
    if out is None and not isinstance(folder, Path):
        raise UserError(f"{folder}: lies in an object store, and a page is a folder on a disk; give --out")
    site = out or Path(folder) / "report"
    require_folder(site)
    page = site / PAGE
    is_ours = page.is_file() and MARK in page.read_text(encoding="utf-8", errors="replace")
    if site.is_dir() and any(site.iterdir()) and not is_ours:
        raise UserError(f"--out {site}: not empty and not a report; choose another or empty it")
    return site


def write_site(site: Path, parts: Iterable[Path], data: dict[str, Any]) -> int:
    """The page's files, its data last; how many bytes they have."""
    site.mkdir(parents=True, exist_ok=True)
    # These two end a line in JavaScript's older grammar, and in JSON they do not.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("\u2028", "\\u2028")
    text = text.replace("\u2029", "\\u2029")
    files = {path.name: path.read_bytes() for path in sorted(parts) if path.suffix in (".html", ".css", ".js")}
    files[DATA] = f"window.VERBATIM={text};\n".encode("utf-8", "backslashreplace")
    for name, content in files.items():
        (site / name).write_bytes(content)
    return sum(map(len, files.values()))
