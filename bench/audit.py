"""What holds for a run's folder whatever was killed: every text has one row, and no committed row is made again.

Owns: the account of one folder over several calls. Must not know: who killed what.
"""

import hashlib
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from orchestrator.results import run_record
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.run_log import read_events

WORK = ("leased", "solved", "unsolved", "judged")
"""Events of the log that stand for work on a text; `leased` is there at level `debug` alone."""


class Audit:
    """Looks at a folder as often as it is asked to, and says at the end what went wrong.

    Args:
        texts: of the corpus, by id; each of them a possible target.
    """

    def __init__(self, folder: Path, texts: dict[str, str]):
        self._folder, self._texts = folder, texts
        self._parts: dict[str, str] = {}
        self._rows: set[tuple[str, str]] = set()
        self._committed: dict[str, datetime] = {}
        self._rewritten: set[str] = set()
        self._recomputed: set[str] = set()

    @property
    def num_committed(self) -> int:
        """Ids that had their row when last looked at."""
        return len(self._committed)

    def look(self) -> None:
        """See that what was committed stays as it is, and that nobody works on it again; remember what is new.

        Parts may be merged, when a run has ended: then it is their rows that stay as they were.
        """
        for event in read_events(self._folder, *WORK):
            if datetime.fromisoformat(event["time"]) > self._committed.get(
                event["id"], datetime.max.replace(tzinfo=UTC)
            ):
                self._recomputed.add(event["id"])
        parts = {entry["part"]: entry["ids"] for entry in Ledger(self._folder).entries()}
        now = datetime.now(UTC)
        if parts.keys() != self._parts.keys():
            self._look_at_rows()
        for part, ids in parts.items():
            for id in ids:
                self._committed.setdefault(id, now)
            with suppress(FileNotFoundError):  # merged since; that its rows are there was seen, or will be
                digest = hashlib.sha256((self._folder / "results" / part).read_bytes()).hexdigest()
                if self._parts.setdefault(part, digest) != digest:
                    self._rewritten.add(part)

    def _look_at_rows(self) -> None:
        """A row that was there and is not, as it was, has been written again, whatever part it is in."""
        rows = {(row["id"], _digest(row)) for row in Ledger(self._folder).read()}
        self._rewritten |= {id for id, _ in self._rows - rows}
        self._rows |= rows

    def conclude(self) -> dict[str, list[str]]:
        """What is wrong with the finished run, by kind; empty if nothing is."""
        self.look()
        rows = list(Ledger(self._folder).read())
        ids = Counter(row["id"] for row in rows)
        record = run_record.require_record(self._folder)
        faults = {
            "lost": sorted(self._texts.keys() - ids.keys()),
            "foreign": sorted(ids.keys() - self._texts.keys()),
            "doubled": sorted(id for id, count in ids.items() if count > 1),
            "recomputed": sorted(self._recomputed),
            "rewritten": sorted(self._rewritten),
            "unproved": sorted(row["id"] for row in rows if not self._is_sound(row)),
            "unfinished": [] if record.is_finished else [record.state],
            "miscounted": [] if record.counts == Counter(row["status"] for row in rows) else [str(record.counts)],
        }
        return {kind: found for kind, found in faults.items() if found}

    def _is_sound(self, row: Row) -> bool:
        """Exact because an engine said this very text, or not called so."""
        is_proved = row["engine"] is not None and row["generated_ids"] == row["token_ids"]
        return row["text"] == self._texts.get(row["id"]) and row["exact"] == is_proved == (row["status"] == "verified")


def _digest(row: Row) -> str:
    values = [value.tobytes() if isinstance(value, np.ndarray) else value for value in row.values()]
    return hashlib.sha256(repr(values).encode()).hexdigest()
