"""`verbatim report --serve` and `status --serve`: a run while it goes on, on this machine alone.

Owns: a web server of the standard library on the loopback address, when the page is written anew. Must not know: what
is on the page.

    /              the report; where the run has no rows yet, the status
    /status        the status, drawn anew every few seconds
    /status.json   the same as `verbatim status --json`
"""

import html
import json
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.console.errors import StorageError, UserError
from orchestrator.report.files import PAGE
from orchestrator.report.written import ReportOptions, write_report
from orchestrator.results.status import Status, read_status, status_lines

HOST = "127.0.0.1"
PORT = 8766

FRESH_S = 5.0
"""Seconds for which a page of a run that goes on is as good as new."""

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

WAITING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{seconds}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }}
progress {{ width: 100%; height: 1.2rem }} p {{ overflow-wrap: anywhere }}</style></head>
<body><h1>{title}</h1><progress max="{total}" value="{done}"></progress>{lines}<p><a href="/">the report</a></p></body>
</html>
"""


@dataclass
class Served:
    """A run's pages, written when they are asked for.

    Attributes:
        options: of the report; where its page lies is not among them.
        site: folder that the page is written to.
    """

    options: ReportOptions
    site: Path
    _written: float | None = None
    _is_final: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def file(self, name: str) -> bytes | None:
        """A file of the page, fresh enough; None where there is none, or no page yet."""
        with self._lock:
            if name == PAGE:
                self._refresh()
            path = self.site / name
            is_inside = path.parent == self.site and path.suffix in TYPES
            return path.read_bytes() if is_inside and path.is_file() else None

    def status(self) -> Status:
        return read_status(self.options.folder)

    def _refresh(self) -> None:
        """Write the page anew if the run has gone on since."""
        is_fresh = self._written is not None and time.monotonic() - self._written < FRESH_S
        if self._is_final or is_fresh:
            return
        state = self.status().state
        with suppress(StorageError):  # the page from before is better than none
            write_report(replace(self.options, out=self.site, refresh_s=FRESH_S if state == "running" else None))
            self._written, self._is_final = time.monotonic(), state == "finished"


def open_server(options: ReportOptions, site: Path, port: int) -> ThreadingHTTPServer:
    """A server that listens and has not begun to answer.

    Raises:
        UserError: the folder is not a run's, or the port is taken.
    """
    served = Served(options, site)
    served.status()
    try:
        return ThreadingHTTPServer((HOST, port), _handler(served))
    except OSError as error:
        raise UserError(f"--port {port}: cannot be served ({error.strerror}); choose another, or 0 for any") from error


def serve(options: ReportOptions, port: int | None, path: str, say: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        port: 0 is any that is free, None the usual one.
        path: of the page that is told.
    """
    with tempfile.TemporaryDirectory(prefix="verbatim-report-") as folder:
        with open_server(options, Path(folder) / "site", PORT if port is None else port) as server:
            say(f"serving {options.folder} on http://{HOST}:{server.server_port}{path}; Ctrl-C ends it")
            with suppress(KeyboardInterrupt):
                server.serve_forever()


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page of somebody else's that has our address under another name is not answered.
            if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in (HOST, "localhost"):
                return self._send(403, b"asked for under a name that is not this machine's own", "text/plain")
            try:
                self._answer(urlsplit(self.path).path)
            except (UserError, StorageError) as error:
                self._send(503, str(error).encode(), "text/plain")

        def _answer(self, path: str) -> None:
            if path == "/status.json":
                return self._send(200, json.dumps(asdict(served.status())).encode(), "application/json")
            if path == "/status":
                return self._send(200, waiting_page(served.status()), "text/html")
            name = path.lstrip("/") or PAGE
            try:
                content = served.file(name)
            except UserError:  # no rows yet
                return self._send(200, waiting_page(served.status()), "text/html")
            if content is None:
                return self._send(404, b"nothing there", "text/plain")
            self._send(200, content, TYPES[Path(name).suffix])

        def _send(self, code: int, content: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the terminal for every request."""

    return Handler


def waiting_page(status: Status) -> bytes:
    """How far the run is, for a browser."""
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in status_lines(status))
    page = WAITING.format(
        seconds=round(FRESH_S), title=html.escape(Path(status.folder).name), total=max(1, status.num_rows),
        done=status.num_committed, lines=lines,
    )  # fmt: skip
    return page.encode("utf-8", "backslashreplace")
