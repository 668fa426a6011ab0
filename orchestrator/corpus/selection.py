"""Which rows of a corpus are meant: all, the first few, or those of some ids.

Owns: how that is asked for and told. Must not know: rows, how ids come to be.
"""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.console.errors import UserError

FILE_SIGN = "@"
MOST_TOLD = 5
"""Ids that are named where a selection is told."""


@dataclass(frozen=True)
class Selection:
    """Rows that are meant; all of them where nothing is asked.

    Attributes:
        limit: so many from the beginning.
        ids: these, as results name them.
    """

    limit: int | None = None
    ids: frozenset[str] | None = None

    @property
    def is_everything(self) -> bool:
        return self.limit is None and self.ids is None

    def __str__(self) -> str:
        """As it is asked for, the ids cut short."""
        if self.limit is not None:
            return f"--limit {self.limit}"
        if self.ids is None:
            return "all rows"
        first, more = sorted(self.ids)[:MOST_TOLD], len(self.ids) - MOST_TOLD
        return f"--ids {','.join(first)}" + (f" and {more} more" if more > 0 else "")


def parse_selection(limit: int | None, ids: str | None) -> Selection:
    """What `--limit` and `--ids` say.

    Args:
        ids: `A,B,...`, or `@FILE` with one id a line.
    Raises:
        UserError: both are given, or no id, or the file cannot be read.
    """
    if limit is not None and ids is not None:
        raise UserError(f"--limit {limit} and --ids {ids}: give one of both")
    if ids is None:
        return Selection(limit)
    is_file = ids.startswith(FILE_SIGN)
    found = _lines(ids) if is_file else [id.strip() for id in ids.split(",")]
    if not (named := frozenset(id for id in found if id)):
        raise UserError(f"--ids {ids}: names no id; give A,B or {FILE_SIGN}FILE with one id a line")
    return Selection(ids=named)


def _lines(ids: str) -> list[str]:
    try:
        return Path(ids.removeprefix(FILE_SIGN)).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"--ids {ids}: cannot be read ({reason}); give a file with one id a line") from error
