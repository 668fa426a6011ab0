"""TOML: files read with one line for what is wrong, and the few kinds of values that settings have, written.

Owns: the syntax, both ways; Python's library only reads. Must not know: what any key means.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.bounded_toml import MAX_BYTES, parse_toml
from engine.settings import SettingsError


def read_toml(path: Path, flag: str) -> dict[str, Any]:
    """What a file says.

    Args:
        flag: what the path was given to, for the message.
    Raises:
        SettingsError: no such file, not TOML, or too much of it.
    """
    try:
        with path.open("rb") as file:
            return parse_toml(file.read(MAX_BYTES + 1).decode("utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{flag} {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{flag} {path}: not a TOML file ({error})") from error


def assignments(values: dict[str, Any]) -> Iterator[str]:
    """A line `key = value` each; tables within tables stand inline. Keys must be bare ones."""
    return (f"{key} = {value_text(value)}" for key, value in values.items())


def comments(text: str) -> Iterator[str]:
    """`text` as comments, a line each; what TOML or UTF-8 cannot take becomes a question mark."""
    for line in text.splitlines():
        yield f"# {''.join(c if c.isprintable() else '?' for c in line)}".rstrip()


def value_text(value: Any) -> str:
    """A bool, number, string, list or dict as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the one control character that JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return f"{{ {', '.join(assignments(value))} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return repr(value)
