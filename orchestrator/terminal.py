"""What may go to a terminal: nothing that it would act on, hide, or scroll past for minutes.

Owns: the escaping of texts, ids and messages. Must not know: what they say.
"""

from rich.console import Console

MOST = 1000
"""Characters of a message that are shown."""


def printable(text: str | None) -> str:
    """A text on one line, with everything a terminal would act on or hide spelled out."""
    if text is None:
        return "(null)"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(message: object) -> str:
    """A message on one line of bounded length, printable."""
    line = printable(" ".join(str(message).split()))
    return line if len(line) <= MOST else f"{line[: MOST - 3]}..."


def say(console: Console, line: str) -> None:
    """A line as it is: no markup, no colours for numbers, wrapped by the terminal alone."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
