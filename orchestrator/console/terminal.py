"""What may go to a terminal: nothing that it would act on, hide, cannot show, or scroll past for minutes.

Owns: consoles, the escaping of texts, ids, names and messages, whoever wrote them. Must not know: what they say.

Every line of every command goes through here: as a line through `say`, as a cell through `cell`, as JSON through
`say_json`.
"""

import io
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, OverflowMethod
from rich.text import Text

MOST = 1000
"""Characters of a message that are shown."""


def make_console(*, stderr: bool = False) -> Console:
    """A console that takes every string as it is: no markup, no emoji names, no colours for numbers."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def never_fail_to_encode() -> None:
    """Have standard output and error spell out what their encoding lacks, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str | None) -> str:
    """A text on one line, with everything a terminal would act on, hide or cannot show spelled out."""
    if text is None:
        return "(null)"
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if shown.isascii() else _encodable(shown)


def one_line(message: object) -> str:
    """A message on one line of bounded length, printable."""
    line = printable(" ".join(str(message).split()))
    return line if len(line) <= MOST else f"{line[: MOST - 3]}..."


def say(console: Console, line: str, style: str | None = None) -> None:
    """A line as it is, wrapped by the terminal alone."""
    console.print(Text(printable(line), style=style or ""), soft_wrap=True)


class Streamed(list):
    """A list that is made while it is printed, for `say_json`.

    Args:
        values: one at a time.
        length: their number.
    """

    def __init__(self, values: Iterable[Any], length: int):
        super().__init__()
        self._values, self._length = values, length

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return self._length


def say_json(value: Any) -> None:
    """A value as JSON on standard output. Strings are escaped as JSON does it, so that it stays the same value."""
    for piece in json.JSONEncoder(indent=1, ensure_ascii=False).iterencode(value):
        print("".join(c if c == "\n" or printable(c) == c else json.dumps(c)[1:-1] for c in piece), end="")
    print()


def cell(text: str | None, style: str = "") -> Text:
    """A cell or heading of a table."""
    return Text(printable(text), style=style)


def cut_off(console: Console) -> OverflowMethod:
    """How a cell that is too long ends: with an ellipsis where the terminal has one."""
    return "crop" if console.options.ascii_only else "ellipsis"


def _encodable(text: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
