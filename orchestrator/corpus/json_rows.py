"""JSON: one object a line, or one array of objects.

Owns: telling the two apart, objects one at a time. Must not know: what their values should be.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from orchestrator.corpus.columns import strings
from orchestrator.corpus.rows import Complaint, Pairs
from orchestrator.corpus.text import MAX_LINE, begins_with, chunks, lines, opened
from orchestrator.storage.location import first_line

SHAPE = "a JSON corpus is one object a line, or one array of objects"
BLANK = re.compile(r"\s*")


class JsonRows:
    """A column is a key of any object; an object without it has null there."""

    def columns_and_rows(self, source: Any) -> tuple[list[str], int]:
        columns: dict[str, None] = {}
        num_rows = 0
        for record in _records(source):
            columns |= dict.fromkeys(record)
            num_rows += 1
        return list(columns), num_rows

    def require_readable(self, source: Any, text: str | None, id: str | None) -> None:
        """Every row speaks for itself."""

    def pairs(self, source: Any, text: str | None, id: str | None) -> Iterator[Pairs]:
        for record in _records(source):
            yield [(_id(record.get(id)) if id else None, record.get(text) if text else None)]


def _records(source: Any) -> Iterator[dict]:
    with opened(source) as file:
        if begins_with(file).startswith("["):
            for number, value in enumerate(_array_values(chunks(file)), 1):
                yield _object(value, f"value {number} of the array")
            return
        for number, line in enumerate(lines(file), 1):
            if line.strip():
                yield _object(_parse(line, number), f"line {number}")


def _parse(line: str, number: int) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Complaint(f"line {number} is not JSON ({first_line(error)}); {SHAPE}") from error


def _object(value: object, place: str) -> dict:
    if not isinstance(value, dict):
        raise Complaint(f"{place} is not a JSON object; {SHAPE}")
    return value


def _id(value: object) -> str | None:
    """In the text form that a column of such values has; objects and arrays as JSON."""
    if value is None or isinstance(value, str):
        return value
    return strings(pa.array([value]))[0] if isinstance(value, (bool, float)) else json.dumps(value)


def _array_values(pieces: Iterator[str]) -> Iterator[object]:
    """The values of an array, one in memory at a time.

    Raises:
        Complaint: a value that is not JSON or too long, anything between them but a comma, anything behind them.
    """
    array = _Unread(pieces)
    array.take("[")
    if array.next() != "]":
        yield array.value(1)
        number = 1
        while array.next() == ",":
            array.take(",")
            number += 1
            yield array.value(number)
    array.take("]")
    if array.next():
        raise Complaint(f"something follows the array's end; {SHAPE}")


class _Unread:
    """What is left of a text that comes in pieces."""

    def __init__(self, pieces: Iterator[str]):
        self._pieces, self._text, self._at = pieces, "", 0
        self._decode = json.JSONDecoder().raw_decode

    def next(self) -> str:
        """The next character that is not blank, left where it is; nothing at the end."""
        while True:
            self._at = BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._read(1):
                return self._text[self._at : self._at + 1]

    def take(self, character: str) -> None:
        """Step over it."""
        if self.next() != character:
            raise Complaint(f"the array lacks a {character}, or was cut off; {SHAPE}")
        self._at += 1

    def value(self, number: int) -> object:
        """Step over a value. Twice as much is read for each try, so that a long one takes few."""
        self.next()
        while True:
            try:
                value, self._at = self._decode(self._text, self._at)
                return value
            except (ValueError, RecursionError) as error:
                length = len(self._text) - self._at
                if length > MAX_LINE:
                    raise Complaint(f"value {number} of the array has more than {MAX_LINE} characters") from error
                if isinstance(error, RecursionError) or not self._read(length):
                    raise Complaint(f"value {number} of the array is not JSON ({first_line(error)})") from error

    def _read(self, length: int) -> bool:
        """Have so many characters more, or as many as there are; whether there were any."""
        parts, num_more = [self._text[self._at :]], 0
        while num_more < length and (piece := next(self._pieces, "")):
            parts.append(piece)
            num_more += len(piece)
        self._text, self._at = "".join(parts), 0
        return num_more > 0
