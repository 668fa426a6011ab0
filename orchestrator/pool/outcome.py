"""What became of one text under one recipe: the unit that recipes are compared in.

Owns: the record, its file. Must not know: Ray, torch, who asks; a search's trials import it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.console.errors import UserError


@dataclass(frozen=True)
class Outcome:
    """One text, tried under one recipe until it was verified or its budget was spent, or as far as it has come.

    Attributes:
        id: of the text.
        exact: verified by the decoding engine.
        cost: passes over the text that it took, forward and backward; the whole budget where it is not exact.
        positions: the same in positions, all attempts and siblings together, not cut at the budget.
        min_margin: smallest margin of the last prompt, logits; None if none was ever certified.
        is_under_way: it goes on; cost and positions are what it took so far, the least that it will come to.
        prefix_tokens: longest prefix that an attempt had exact, as the solver saw it; the whole text where it is exact.
        num_tokens: of the text.
    """

    id: str
    exact: bool
    cost: float
    positions: int
    steps: int
    attempts: int
    min_margin: float | None
    is_under_way: bool = False
    prefix_tokens: int = 0
    num_tokens: int = 0


class OutcomeFile:
    """Outcomes that have been paid for, by recipe: one JSON object a line.

    Args:
        path: a torn last line does not count; who writes cuts it off first.
    """

    def __init__(self, path: Path):
        self._path = path

    def read(self) -> Iterator[tuple[str, Outcome]]:
        """(recipe hash, outcome) of every whole line.

        Raises:
            UserError: a line is damaged; the message tells which.
        """
        if not self._path.is_file():
            return
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    yield self._parsed(number, line)

    def append(self, recipe_hash: str, outcome: Outcome) -> None:
        """Keep an outcome of a recipe; it has ended."""
        with self._path.open("a", encoding="utf-8") as lines:
            values = {"recipe": recipe_hash} | asdict(outcome)
            del values["is_under_way"]
            lines.write(json.dumps(values) + "\n")

    def _parsed(self, number: int, line: bytes) -> tuple[str, Outcome]:
        try:
            values = json.loads(line)
            return values.pop("recipe"), Outcome(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{self._path}: line {number} is damaged; remove it and run again") from error
