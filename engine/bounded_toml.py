"""TOML of any origin, parsed in bounded time and memory.

Owns: how long, how deep and how dotted a text may be. Must not know: files, what any key means.
"""

import tomllib
from typing import Any

MAX_BYTES = 1 << 16
"""Longest text; the longest of our own recipes has 8 kB."""

MAX_DOTS = 256
"""Most dots in a line. Python's parser keeps every prefix of a dotted key: memory grows as the square of its parts."""


def parse_toml(text: str) -> dict[str, Any]:
    """What a text says.

    Raises:
        ValueError: not TOML, or beyond the bounds; the message says which.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES >> 10} KiB")
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise ValueError(f"more than {MAX_DOTS} dots in a line")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
