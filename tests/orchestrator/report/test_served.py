"""A report that is served while a run goes on: fresh pages, the status before there are rows, this machine alone."""

import json
import threading
import urllib.request
from contextlib import contextmanager
from urllib.error import HTTPError

import pytest

from orchestrator.report import ReportOptions, served
from orchestrator.report.served import open_server
from orchestrator.results.ledger import Ledger
from orchestrator.storage.folder_lock import sole_writer
from tests.orchestrator.made_up import run_record
from tests.orchestrator.report.browser import Browser, find_browser
from tests.verbatim.made_up import made_row, make_run


@contextmanager
def serving(folder, tmp_path):
    with open_server(ReportOptions(folder), tmp_path / "site", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def get(url, **headers):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return answer.read().decode()


@pytest.fixture
def run(tmp_path):
    """A run that goes on: its folder says so, and it is held."""
    folder = make_run(tmp_path / "run", [made_row(n) for n in range(3)])
    record = json.loads((folder / "run.json").read_text()) | {"state": "running", "num_rows": 9}
    (folder / "run.json").write_text(json.dumps(record))
    with sole_writer(folder):
        yield folder


def data_of(url):
    return json.loads(get(f"{url}/data.js").removeprefix("window.VERBATIM=").removesuffix(";\n"))


def test_the_page_is_that_of_the_rows_so_far(run, tmp_path, monkeypatch):
    monkeypatch.setattr(served, "FRESH_S", 0.0)
    with serving(run, tmp_path) as url:
        assert "verbatim report" in get(url)
        assert len(data_of(url)["texts"]["id"]) == 3
        Ledger(run).commit([made_row(n) for n in range(3, 5)])
        get(f"{url}/index.html")
        assert len(data_of(url)["texts"]["id"]) == 5


def test_a_page_that_is_fresh_is_not_written_again(run, tmp_path):
    with serving(run, tmp_path) as url:
        get(url)
        Ledger(run).commit([made_row(n) for n in range(3, 5)])
        get(url)
        assert len(data_of(url)["texts"]["id"]) == 3 and data_of(url)["refresh_s"] == served.FRESH_S


def test_before_there_are_rows_the_status_is_shown(tmp_path):
    run_record(counts={}).write(tmp_path / "run <b>")
    with serving(tmp_path / "run <b>", tmp_path) as url:
        page = get(url)
        assert "0 of 3 rows committed" in page and "<b>" not in page and "run &lt;b&gt;" in page
        assert json.loads(get(f"{url}/status.json"))["state"] == "killed"
        assert get(f"{url}/status") == page


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [("/", {"Host": "evil.example"}, 403), ("/run.json", {}, 404), ("/../run/run.json", {}, 404)],
)
def test_nobody_else_is_answered_and_no_other_file_is_given(run, tmp_path, path, headers, code):
    with serving(run, tmp_path) as url, pytest.raises(HTTPError) as refused:
        get(url + path, **headers)
    assert refused.value.code == code
    refused.value.close()


@pytest.mark.parametrize("flag", [("--margins",), ("--json",), ("--out", "site")], ids=lambda flag: flag[0])
def test_flags_that_serving_would_ignore(run, flag):
    from typer.testing import CliRunner

    from tune_spaces.cli import app

    outcome = CliRunner().invoke(app, ["report", str(run), "--serve", *flag])
    assert outcome.exit_code == 2 and f"{flag[0]}: a report that is served" in outcome.stderr


def test_a_port_that_is_taken(run, tmp_path):
    with serving(run, tmp_path) as url, pytest.raises(served.UserError, match="--port .*: cannot be served"):
        open_server(ReportOptions(run), tmp_path / "other", int(url.rpartition(":")[2]))


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no chromium on this machine; apt-get install chromium")
def test_a_page_in_a_browser_follows_the_run_and_keeps_its_place(run, tmp_path, monkeypatch):
    monkeypatch.setattr(served, "FRESH_S", 0.5)
    count = "document.getElementById('count') && document.getElementById('count').textContent"
    with serving(run, tmp_path) as url, Browser(find_browser()) as browser:
        browser.page("Page.navigate", {"url": f"{url}/#q=row"})
        browser.wait("document.body && document.body.dataset.ready === 'yes'")
        before = browser.run(count)
        Ledger(run).commit([made_row(n) for n in range(3, 7)])
        browser.wait(f"({count}) && ({count}) !== {before!r}")
        assert browser.run("location.hash") == "#q=row" and browser.complaints == []
