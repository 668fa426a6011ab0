"""`log.jsonl`: what happened in a run, one JSON line an event, bounded in size.

Owns: the lines, their file, its rotation, in an object store its rewriting. Must not know: what events mean, Ray.

    {"time": "2026-11-21T10:00:00.123Z", "level": "info", "event": "judged", "id": "row-3", "exact": true, ...}

A line never holds a text or what was decoded: ids, names and numbers alone. A log that cannot be written (a full disk)
does not stop a run.
"""

import json
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Self

from orchestrator.console.errors import StorageError
from orchestrator.storage import Storage, open_storage
from orchestrator.storage.location import Location

FILE = "log.jsonl"
LEVELS = ("debug", "info", "warning")

MAX_BYTES = 8 * 2**20
NUM_OLD = 3
"""A file of this size becomes `log.jsonl.1`, and so on up to `NUM_OLD`; older events are gone. 32 MiB in all."""

STORED_BYTES = 2**20
STORED_INTERVAL_S = 10.0
"""Where a file cannot grow, the last events up to this size are written anew, at most this often."""

MAX_VALUE = 256
"""Characters of an id or a cause that are kept."""


class RunLog:
    """The log of one run's folder; goes on where an earlier call stopped.

    Args:
        level: the least that is written, one of `LEVELS`.
    """

    def __init__(self, folder: Location, level: str = "info", *, max_bytes: int = MAX_BYTES, num_old: int = NUM_OLD):
        if isinstance(folder, Path):
            path = folder / FILE
            _end_torn_line(path)
            self._handler = _QuietHandler(path, maxBytes=max_bytes, backupCount=num_old, encoding="utf-8", delay=True)
        else:
            self._handler = _StoredHandler(open_storage(folder))
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


def read_events(folder: Location, *names: str) -> Iterator[dict[str, Any]]:
    """Events of these names in order, oldest first, from the last file and the one before."""
    wanted = [f'"event": "{name}"' for name in names]
    for file in (f"{FILE}.1", FILE):
        for line in _lines(open_storage(folder), file):
            if any(part in line for part in wanted) and (event := _parsed(line)) and event["event"] in names:
                yield event


def last_event(folder: Location) -> dict[str, Any] | None:
    """The last whole line, or None without a log."""
    lines = (line for file in (FILE, f"{FILE}.1") for line in reversed(_lines(open_storage(folder), file)))
    return next((event for line in lines if (event := _parsed(line))), None)


def _lines(storage: Storage, name: str) -> list[str]:
    try:
        return (storage.read(name) or b"").decode("utf-8", errors="replace").splitlines()
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


class _StoredHandler(logging.Handler):
    """Keeps the last events and writes all of them; a kill costs those of the last interval."""

    def __init__(self, storage: Storage):
        super().__init__()
        self._storage = storage
        self._lines = deque(_lines(storage, FILE))
        self._num_bytes = sum(map(len, self._lines))
        self._last_write = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
        self._num_bytes += len(self._lines[-1])
        while self._num_bytes > STORED_BYTES:
            self._num_bytes -= len(self._lines.popleft())
        if time.monotonic() - self._last_write >= STORED_INTERVAL_S:
            self._write()

    def close(self) -> None:
        self._write()
        super().close()

    def _write(self) -> None:
        self._last_write = time.monotonic()
        with suppress(StorageError):  # the run goes on without its log
            self._storage.replace({FILE: "".join(f"{line}\n" for line in self._lines).encode()})


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
