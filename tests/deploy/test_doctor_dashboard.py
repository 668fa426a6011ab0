"""`verbatim doctor` on dashboards: who is warned."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ray.util import get_node_ip_address
from rich.console import Console

from orchestrator.doctor import machine
from orchestrator.doctor.finding import print_findings


class Dashboard(BaseHTTPRequestHandler):
    """Answers the one question as Ray does."""

    answer = b"{}"

    def do_GET(self):
        assert self.path == "/api/authentication_mode"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def outer_ip() -> str:
    ip = get_node_ip_address()
    if ip.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return ip


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("0.0.0.0", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def says(monkeypatch, answer: object) -> None:
    monkeypatch.setattr(Dashboard, "answer", json.dumps(answer).encode())


def test_a_dashboard_without_authentication_on_an_outer_address_is_found(monkeypatch, port, outer_ip):
    says(monkeypatch, {"authentication_mode": "disabled"})
    url = f"http://{outer_ip}:{port}"
    assert machine.find_open_dashboard([url]) == url


def test_a_dashboard_with_a_token_on_loopback_or_not_rays_is_not(monkeypatch, port, outer_ip):
    says(monkeypatch, {"authentication_mode": "disabled"})
    assert machine.find_open_dashboard([f"http://127.0.0.1:{port}", f"http://localhost:{port}"]) is None
    for answer in ({"authentication_mode": "token"}, {}, [], None):
        says(monkeypatch, answer)
        assert machine.find_open_dashboard([f"http://{outer_ip}:{port}"]) is None


def test_nothing_is_found_where_nobody_listens(outer_ip):
    assert machine.find_open_dashboard([f"http://{outer_ip}:9", "http://[broken"[:7], "http://"]) is None


def test_the_warning_says_what_to_do_and_a_run_would_still_work(monkeypatch, port, outer_ip):
    says(monkeypatch, {"authentication_mode": "disabled"})
    monkeypatch.setattr(machine, "DASHBOARD_PORT", port)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    finding = machine._dashboard()
    assert finding.is_fine and finding.is_warning
    told = io.StringIO()
    print_findings([finding], Console(file=told))
    assert told.getvalue().startswith(f"WARN Ray: the dashboard at http://{outer_ip}:{port} runs anybody's code")
    assert "--dashboard-host=127.0.0.1 and RAY_AUTH_MODE=token" in told.getvalue()


def test_a_dashboard_that_the_environment_names_is_looked_at(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://ray.example.org")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert machine._dashboard_urls()[1:] == ["https://ray.example.org"]
