"""What tells a search's folder from a run's.

Owns: that alone; nothing heavy is imported here, since every `verbatim status` asks. Must not know: what is in it.
"""

from pathlib import Path

from orchestrator.console.errors import UserError
from orchestrator.storage.location import Location, parse_location

FILE = "tune.json"


def is_search(folder: Location) -> bool:
    """Whether a search was started in a folder."""
    return isinstance(folder, Path) and (folder / FILE).is_file()


def folder_of(out: str) -> Path:
    """A search's folder.

    Raises:
        UserError: it is none of a disk.
    """
    place = parse_location(out, "--out")
    if not isinstance(place, Path):
        raise UserError(f"--out {out}: a search's study grows line by line, as a file on a disk; give a folder there")
    return place
