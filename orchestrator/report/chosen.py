"""The texts that a page shows one by one: all of them, or of a very long run a bounded choice.

Owns: which rows are kept, and what of each. Must not know: figures, HTML, models.

Texts may be long and a page should stay small, so of a long one a window is kept around the place where it broke.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.report.figures import rounded
from orchestrator.results.ledger import Row

MOST_TEXTS = 20_000
"""Texts shown, half of them for those that are not exact. Assumption: some 8 MB."""
MOST_CHARACTERS = 2_000
MOST_TOKENS = 400
"""Shown of one text."""


@dataclass
class Sample:
    """At most `limit` of the rows that go by, each as likely as any other; the same ones every time."""

    limit: int
    rows: list[Row] = field(default_factory=list)
    num_seen: int = 0
    _draw: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, row: Row) -> None:
        self.num_seen += 1
        if len(self.rows) < self.limit:
            self.rows.append(row)
        elif (place := self._draw.randrange(self.num_seen)) < self.limit:
            self.rows[place] = row


@dataclass
class Chosen:
    """Rows to be shown."""

    exact: Sample = field(default_factory=lambda: Sample(MOST_TEXTS // 2))
    other: Sample = field(default_factory=lambda: Sample(MOST_TEXTS // 2))

    def add(self, row: Row) -> None:
        (self.exact if row["exact"] else self.other).add(row)

    @property
    def rows(self) -> list[Row]:
        """In the order of the corpus."""
        return sorted([*self.exact.rows, *self.other.rows], key=lambda row: row["row"])

    @property
    def num_left_out(self) -> int:
        return self.exact.num_seen + self.other.num_seen - len(self.exact.rows) - len(self.other.rows)


@dataclass(frozen=True)
class Window:
    """The tokens of a text that are shown."""

    start: int
    end: int

    @classmethod
    def of(cls, row: Row) -> "Window":
        """The first ones, or those around the first wrong one."""
        num_tokens = max(len(row["token_ids"] or ()), len(row["generated_ids"] or ()))
        broke = num_tokens if row["exact"] or row["first_mismatch"] is None else row["first_mismatch"]
        start = 0 if broke >= num_tokens else max(0, min(broke - MOST_TOKENS // 2, num_tokens - MOST_TOKENS))
        return cls(start, start + MOST_TOKENS)

    def cut(self, values: Iterable[Any] | None) -> list[Any] | None:
        return None if values is None else list(values)[self.start : self.end]


SAME = ("id", "row", "num_vectors", "steps", "positions", "attempts", "first_mismatch")
ROUNDED = ("min_margin", "engine_margin", "log_prob", "beam_slack", "teacher_forced_nats", "token_accuracy", "seconds")
NAMED = ("status", "reason", "diagnosis", "engine", "engine_dtype", "proof", "rung", "spelling")
"""Few values, many rows: a list of the values, and for each row its place in it."""


def told(rows: list[Row]) -> dict[str, Any]:
    """Columns, because a name a row and column would be most of the page."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in SAME}
    columns |= {name: [rounded(row[name]) for row in rows] for name in ROUNDED}
    columns |= {name: _named([row[name] for row in rows]) for name in NAMED}
    windows = [Window.of(row) for row in rows]
    columns["exact"] = [int(row["exact"]) for row in rows]
    columns["text"] = [None if row["text"] is None else row["text"][:MOST_CHARACTERS] for row in rows]
    columns["length"] = [len(row["token_ids"] or ()) for row in rows]
    columns["start"] = [window.start for window in windows]
    columns["target"] = [window.cut(row["token_ids"]) for row, window in zip(rows, windows, strict=True)]
    columns["said"] = [
        None if row["exact"] else window.cut(row["generated_ids"]) for row, window in zip(rows, windows, strict=True)
    ]
    return columns


def _named(values: list[str | None]) -> dict[str, list]:
    names = list(dict.fromkeys(values))
    places = {name: place for place, name in enumerate(names)}
    return {"names": names, "of": [places[value] for value in values]}
