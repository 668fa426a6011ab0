"""The metrics of a run, as Prometheus would scrape them from Ray, and the board that shows them."""

import contextlib
import json
import os
import re
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray.util import metrics as ray_metrics

from orchestrator.dispatch import metrics
from orchestrator.dispatch.dispatcher import Tempo
from orchestrator.dispatch.metrics import METRICS, Metrics
from orchestrator.dispatch.watch import Watch
from orchestrator.fleet import workers
from orchestrator.results.ledger import Ledger
from orchestrator.run import command

GRAFANA = Path(__file__).parents[3] / "deploy" / "grafana"
WATCHING = Path(__file__).parents[3] / "docs" / "watching.md"

SHORT = ["It was late.", "She made tea.", "A dog ran home."]
HARD = "zq7#Kv!0x_@pW ~8jQ%^ L$3rB&*Yt|"
"""Nothing that two vectors say within the few steps they get."""

PATIENCE_S = 60


class Scraper(threading.Thread):
    """Reads Ray's export port as Prometheus would; holds the last and the largest value of every series ever seen."""

    def __init__(self):
        super().__init__(daemon=True)
        (node,) = ray.nodes()
        self._url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        self._is_over = threading.Event()
        self.values, self.most = {}, {}  # (series, labels) -> last value, largest value

    def run(self):
        while not self._is_over.is_set():
            with contextlib.suppress(OSError):
                self.scrape()
            self._is_over.wait(0.3)

    def scrape(self):
        with urllib.request.urlopen(self._url, timeout=5) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                for sample in family.samples:
                    if sample.name.startswith("ray_verbatim_"):
                        labels = {key: value for key, value in sample.labels.items() if key in LABELS}
                        key = self._key(sample.name.removeprefix("ray_"), labels)
                        self.values[key] = sample.value
                        self.most[key] = max(sample.value, self.most.get(key, sample.value))

    def close(self):
        self._is_over.set()
        self.join()

    def last(self, name, **labels):
        return self.values.get(self._key(name, labels), 0)

    def largest(self, name, **labels):
        return self.most.get(self._key(name, labels), 0)

    @staticmethod
    def _key(name, labels):
        return f"ray_{name}", tuple(sorted(labels.items()))


LABELS = {"run", "le"} | {tag for metric in METRICS.values() for tag in metric.tags}


@dataclass(frozen=True)
class Scraped:
    """A run that was scraped."""

    run: str
    scraper: Scraper
    folder: Path

    def last(self, name, **labels):
        return self.scraper.last(name, run=self.run, **labels)

    def largest(self, name, **labels):
        return self.scraper.largest(name, run=self.run, **labels)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory, write_jsonl, verbatim):
    """A run of three short texts and a hard one whose solver is killed at its first lease, and what was scraped."""
    folder = tmp_path_factory.mktemp("scraped")
    corpus = write_jsonl(folder / "corpus.jsonl", [{"text": text} for text in [*SHORT, HARD, ""]])
    settings = ("--set", "num_vectors=2", "--set", "max_steps=120", "--set", "attempts=2", "--set", "noise_factor=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        workers.connect(None, dashboard=False)
        shutdown = ray.shutdown
        patch.setattr(ray, "shutdown", lambda: None)  # so that what was recorded last is scraped as well
        # Between two exports the hard text alone is under way, and is seen to be.
        patch.setattr(command, "TEMPO", Tempo(slice_s=0.3))
        patch.setattr(metrics, "GAUGE_INTERVAL_S", 0.0)
        patch.setattr(Watch, "leased", kill_the_first_solver(Watch.leased, "run"))
        scraper = Scraper()
        scraper.start()
        try:
            outcome = verbatim("run", corpus, "--out", folder / "run", "--engine", "hf", "--no-dashboard", *settings)
            run = f"run-{os.getpid()}"
            end = time.monotonic() + PATIENCE_S
            while scraper.last("verbatim_exact_frac", run=run) != 3 / 5 and time.monotonic() < end:
                time.sleep(0.3)
        finally:
            scraper.close()
            shutdown()
    assert outcome.code == 3 and "3 of 5 exact" in outcome.out, outcome
    return Scraped(run, scraper, folder / "run")


def kill_the_first_solver(leased, run):
    def leased_and_killed(watch, worker, jobs):
        leased(watch, worker, jobs)
        if jobs and not watch.retries:
            ray.kill(ray.get_actor(f"{run}-{os.getpid()}/{worker}/0"))

    return leased_and_killed


def on_ray(test):
    """For a test of the run above."""
    return pytest.mark.ray(pytest.mark.slow(test))


@on_ray
def test_every_metric_of_the_table_is_exported_under_the_name_the_board_uses(scraped):
    seen = {name for name, _ in scraped.scraper.values}
    assert {metric.series(name) for name, metric in METRICS.items()} <= seen
    exported = {re.sub("_(total|bucket|sum|count)$", "", name.removeprefix("ray_")) for name in seen}
    assert exported == METRICS.keys()


@on_ray
def test_texts_retries_and_replacements_are_counted(scraped):
    by_status = {status: scraped.last("verbatim_texts_total", status=status) for status in ("verified", "unsolved")}
    assert by_status == {"verified": 3, "unsolved": 1}
    assert scraped.last("verbatim_texts_total", status="invalid") == 1
    assert scraped.last("verbatim_exact_frac") == 3 / 5
    assert scraped.last("verbatim_retries_total", cause="unsolved") == 1
    assert scraped.last("verbatim_retries_total", cause="lost_worker") == 4
    assert scraped.last("verbatim_replacements_total", worker="solver-0") == 1


@on_ray
def test_histograms_hold_what_the_rows_say(scraped):
    rows = {row["id"]: row for row in Ledger(scraped.folder).read()}
    steps = [rows[f"row-{i}"]["steps"] for i in range(3)]
    margins = [rows[f"row-{i}"]["min_margin"] for i in range(3)]
    for name, values, labels in (("steps", steps, {"outcome": "solved"}), ("margin_logits", margins, {})):
        metric = METRICS[f"verbatim_{name}"]
        for boundary in metric.boundaries:
            count = scraped.last(f"verbatim_{name}_bucket", le=str(float(boundary)), **labels)
            assert count == sum(value <= boundary for value in values), (name, boundary)
    assert scraped.last("verbatim_steps_count", outcome="unsolved") == 2
    assert scraped.last("verbatim_verdict_seconds_count") == 3
    assert scraped.last("verbatim_commit_seconds_count") >= 1


@on_ray
def test_work_is_counted_by_worker_and_gauges_move(scraped):
    rows = [row for row in Ledger(scraped.folder).read() if row["token_ids"]]
    positions = scraped.last("verbatim_solver_positions_total", worker="solver-0")
    assert positions == sum(row["positions"] for row in rows)
    assert scraped.last("verbatim_verifier_tokens_total") == sum(len(row["token_ids"]) for row in rows if row["exact"])
    assert scraped.last("verbatim_solver_busy_seconds_total", worker="solver-0") > 0
    assert scraped.last("verbatim_verifier_busy_seconds_total") > 0
    assert scraped.largest("verbatim_slots", worker="solver-0") >= 1
    assert scraped.last("verbatim_slots", worker="solver-0") == 0
    assert scraped.largest("verbatim_queue_depth", state="pending") == 4
    assert all(scraped.last("verbatim_queue_depth", state=state) == 0 for state in ("pending", "leased", "candidate"))


@on_ray
def test_log_and_status_tell_the_same_run(scraped, verbatim):
    events = [json.loads(line) for line in (scraped.folder / "log.jsonl").read_text().splitlines()]
    names = Counter(event["event"] for event in events)
    assert events[0]["event"] == "started" and events[0]["run"] == scraped.run
    assert names == {
        **dict(started=1, invalid=1, actor_died=1, actor_replaced=1, solved=3, unsolved=2, judged=3, finished=1),
        **dict(retried=5, committed=names["committed"]),
    }
    assert sum(event["count"] for event in events if event["event"] == "committed") == 5
    assert not any(text in (scraped.folder / "log.jsonl").read_text() for text in [*SHORT, HARD])

    status = json.loads(verbatim("status", scraped.folder, "--json").out)
    assert status["retries"] == {"lost_worker": 4, "unsolved": 1}
    assert status["last_event"]["event"] == "finished" and status["texts_a_minute"] > 0
    plain = verbatim("status", scraped.folder).out
    assert "retries: 4 lost_worker, 1 unsolved" in plain and "finished, done 5" in plain


def test_no_metric_raises_into_the_run(monkeypatch):
    ours = Metrics("run \udce9")
    for name, metric in METRICS.items():
        tags = dict.fromkeys(metric.tags, "x")
        for value in (0, -1, 2.5, float("nan"), float("inf")):
            ours.record(name, value, **tags)
        ours.record(name, 1, **tags, unknown="x")
        ours.record(name, 1, **dict.fromkeys(metric.tags, 7))
        ours.record(name)
    ours.record("verbatim_none_such")

    monkeypatch.setattr(ray_metrics.Metric, "__init__", lambda *_: 1 / 0)
    broken = Metrics("run")
    broken.record("verbatim_commit_seconds", 1)


def test_gauges_are_due_only_now_and_then():
    ours = Metrics("run")
    assert [ours.are_gauges_due for _ in range(3)] == [True, False, False]


def queries():
    board = json.loads((GRAFANA / "verbatim.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_the_board_shows_every_metric_and_no_other():
    shown = {series for query in queries() for series in re.findall(r"\bray_\w+", query)}
    assert shown == {metric.series(name) for name, metric in METRICS.items()}


def test_the_boards_queries_choose_the_run_and_group_by_tags_that_exist():
    for query in queries():
        names = re.findall(r"\bray_(verbatim_\w+)", query)
        assert query.count('{run=~"$run"}') == len(names), query
        queried = [METRICS[re.sub("_(total|bucket)$", "", name)] for name in names]
        for group in re.findall(r"by \(([^)]*)\)", query):
            assert set(group.split(", ")) - {"le"} <= set(queried[0].tags), query
        assert ("histogram_quantile" in query) == all(metric.kind == "histogram" for metric in queried)


def test_the_boards_file_is_what_its_script_writes():
    spec = util.spec_from_file_location("make_board", GRAFANA / "make_board.py")
    make_board = util.module_from_spec(spec)
    spec.loader.exec_module(make_board)
    assert (GRAFANA / "verbatim.json").read_text() == make_board.text()


def test_the_page_on_watching_lists_every_metric_as_it_is():
    rows = re.findall(r"^\| `(verbatim_\w+)` \| (\w+) \| (\w+) \| (.*?) \| (.*?) \|$", WATCHING.read_text(), re.M)
    assert {name: (kind, unit, tags, meaning) for name, kind, unit, tags, meaning in rows} == {
        name: (metric.kind, metric.unit, ", ".join(metric.tags), metric.meaning) for name, metric in METRICS.items()
    }
