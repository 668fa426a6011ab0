"""`log.jsonl`: what happened in a run, one JSON line an event, bounded in size.

Owns: the lines, their file, its rotation. Must not know: what the events mean, Ray.

    {"time": "2026-11-21T10:00:00.123Z", "level": "info", "event": "judged", "id": "row-3", "exact": true, ...}

A line never holds a text or what was decoded: ids, names and numbers alone. A log that cannot be written (a full disk)
does not stop a run.
"""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Self

FILE = "log.jsonl"
LEVELS = ("debug", "info", "warning")

MAX_BYTES = 8 * 2**20
NUM_OLD = 3
"""A file of this size becomes `log.jsonl.1`, and so on up to `NUM_OLD`; older events are gone. 32 MiB in all."""

MAX_VALUE = 256
"""Characters of an id or a cause that are kept."""


class RunLog:
    """The log of one run's folder; goes on where an earlier call stopped.

    Args:
        level: the least that is written, one of `LEVELS`.
    """

    def __init__(self, folder: Path, level: str = "info", *, max_bytes: int = MAX_BYTES, num_old: int = NUM_OLD):
        path = folder / FILE
        _end_torn_line(path)
        self._handler = _QuietHandler(path, maxBytes=max_bytes, backupCount=num_old, encoding="utf-8", delay=True)
        self._least = LEVELS.index(level)

    def debug(self, event: str, **facts: Any) -> None:
        self._tell("debug", event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self._tell("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._tell("warning", event, facts)

    def _tell(self, level: str, event: str, facts: dict[str, Any]) -> None:
        # No logger: it would cost more than the line, and no other library's logging set-up reaches a bare handler.
        if LEVELS.index(level) >= self._least:
            self._handler.handle(logging.LogRecord(event, 0, "", 0, _json_line(level, event, facts), None, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handler.close()


def read_events(folder: Path, *names: str) -> Iterator[dict[str, Any]]:
    """Events of these names in order, oldest first, from the last file and the one before."""
    wanted = [f'"event": "{name}"' for name in names]
    for file in (f"{FILE}.1", FILE):
        for line in _lines(folder / file):
            if any(part in line for part in wanted) and (event := _parsed(line)) and event["event"] in names:
                yield event


def last_event(folder: Path) -> dict[str, Any] | None:
    """The last whole line, or None without a log."""
    lines = (line for file in (FILE, f"{FILE}.1") for line in reversed(_lines(folder / file)))
    return next((event for line in lines if (event := _parsed(line))), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _parsed(line: str) -> dict[str, Any] | None:
    """None for a line that a crash tore."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"time", "level", "event"} <= event.keys() else None


def _json_line(level: str, event: str, facts: dict[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {key: _short(value) for key, value in facts.items() if value is not None}
    line = json.dumps({"time": now, "level": level, "event": event, **told})
    return line.replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is


class _QuietHandler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk, a folder that is gone: the run goes on without its log."""


def _short(value: Any) -> Any:
    return value[: MAX_VALUE - 1] + "…" if isinstance(value, str) and len(value) > MAX_VALUE else value


def _end_torn_line(path: Path) -> None:
    """Make the next line stand alone after a crash."""
    try:
        with path.open("rb+") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
    except OSError:
        return
