"""A run's log: what is written for each event, that no text is in it, that it stays small and goes on after a crash."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.dispatch.metrics import Metrics
from orchestrator.dispatch.watch import Watch
from orchestrator.results.run_log import LEVELS, MAX_VALUE, RunLog, last_event, read_events
from orchestrator.results.status import print_status, read_status
from orchestrator.storage.folder_lock import sole_writer
from orchestrator.work.item import State
from tests.orchestrator.made_up import attempt, job, run_record, verdict

ODD = ["two\nlines", "bell\x07 \x1b[31mred", "\x7f\x85\u2028", '"quoted" {"a": 1}', "lone \udce9", "", "é" * 5000]


class Recorder(Metrics):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__("made up")
        self.told = []

    def record(self, name, value=1, **tags):
        super().record(name, value, **tags)
        self.told.append((name.removeprefix("verbatim_"), tags))


@pytest.fixture
def watch(tmp_path):
    with RunLog(tmp_path, "debug") as log:
        yield Watch(Recorder(), log)


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_bytes().decode("ascii").splitlines()]


def go_through_everything(watch, id):
    """Every event there is, for one text."""
    first, second = job(id), job(id)
    watch.started("run", total=1, done=0, num_solvers=1)
    watch.refused(id, "empty")
    watch.leased("solver-0", [first])
    watch.lost("solver-0", {id: State.PENDING, f"{id} too": State.POISONED}, "killed")
    watch.replaced("solver-0", 1)
    watch.attempted("solver-0", attempt(first, is_solved=False), State.PENDING)
    watch.attempted("solver-0", attempt(second), State.CANDIDATE)
    watch.judged("verifier", [verdict(id, exact=False)], [State.PENDING])
    watch.attempted("solver-0", attempt(second), State.CANDIDATE)
    watch.judged("verifier", [verdict(id)], [State.VERIFIED])
    watch.kept(Counter(verified=1), 0.5)
    watch.interrupted(ValueError(f"text of {id}"), 1)
    watch.finished(1, 2.5)


EVENTS = [
    "started", "invalid", "leased", "actor_died", "retried", "poisoned", "actor_replaced", "unsolved", "retried",
    "solved", "judged", "rejected", "retried", "solved", "judged", "committed", "interrupted", "finished",
]  # fmt: skip


def test_every_event_is_one_line_with_time_level_and_whom_it_concerns(watch, tmp_path):
    go_through_everything(watch, "a")
    log = lines(tmp_path)
    assert [line["event"] for line in log] == EVENTS
    assert all(line["level"] in LEVELS and datetime.fromisoformat(line["time"]).tzinfo for line in log)
    assert [line["cause"] for line in log if line["event"] == "retried"] == ["lost_worker", "unsolved", "rejected"]
    rejected = next(line for line in log if line["event"] == "rejected")
    assert (rejected["id"], rejected["attempt"], rejected["worker"]) == ("a", 1, "verifier")
    assert watch.retries == {"lost_worker": 1, "unsolved": 1, "rejected": 1}
    told = watch.metrics.told
    assert [tags["cause"] for name, tags in told if name == "retries"] == ["lost_worker", "unsolved", "rejected"]
    assert [tags["outcome"] for name, tags in told if name == "steps"] == ["unsolved", "solved", "solved"]
    assert sum(name == "verdict_seconds" for name, _ in told) == 2 and ("texts", {"status": "verified"}) in told


@pytest.mark.parametrize("id", ODD)
def test_no_text_is_in_it_and_odd_ids_stay_on_their_line(watch, tmp_path, id):
    go_through_everything(watch, id)
    content = (tmp_path / "log.jsonl").read_bytes()
    assert content.count(b"\n") == len(EVENTS) == len(lines(tmp_path))
    assert all(byte == 10 or 32 <= byte < 127 for byte in content), "printable ASCII and line breaks alone"
    assert "text of" not in json.dumps(lines(tmp_path))
    told = {line["id"] for line in lines(tmp_path) if line["event"] == "solved"}
    assert told == {id if len(id) <= MAX_VALUE else id[: MAX_VALUE - 1] + "…"}


@pytest.mark.parametrize(
    ("level", "written"), [("debug", "debug info warning"), ("info", "info warning"), ("warning", "warning")]
)
def test_the_level_is_the_least_that_is_written(tmp_path, level, written):
    with RunLog(tmp_path, level) as log:
        log.debug("debug")
        log.info("info")
        log.warning("warning")
    assert [line["event"] for line in lines(tmp_path)] == written.split()


def test_its_size_is_bounded_and_the_newest_stays(tmp_path):
    with RunLog(tmp_path, max_bytes=2000, num_old=2) as log:
        for number in range(500):
            log.info("solved", id=f"row-{number}")
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert all((tmp_path / name).stat().st_size <= 2000 for name in files)
    events = list(read_events(tmp_path, "solved"))
    assert [event["id"] for event in events] == [f"row-{number}" for number in range(500 - len(events), 500)]
    assert last_event(tmp_path)["id"] == "row-499"


def test_a_resumed_run_appends_even_after_a_torn_line(tmp_path):
    with RunLog(tmp_path) as log:
        log.info("started")
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"time": "2026-11-21T1')
    assert last_event(tmp_path)["event"] == "started"
    with RunLog(tmp_path) as log:
        log.info("committed", count=2)
    assert [event["event"] for event in read_events(tmp_path, "started", "committed")] == ["started", "committed"]
    assert last_event(tmp_path)["count"] == 2


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, capfd):
    (tmp_path / "log.jsonl").mkdir()
    with RunLog(tmp_path) as log:
        log.info("started")
    with RunLog(tmp_path / "missing") as log:
        log.info("started")
    assert capfd.readouterr() == ("", "") and last_event(tmp_path) is None


@pytest.fixture
def log_of(tmp_path):
    """Write a run's files: `log_of([(seconds ago, event, facts)], **record)` gives its status."""

    def write(events, **record):
        now = datetime.now(UTC)
        parts = [
            {"time": (now - timedelta(seconds=ago)).isoformat(), "level": "info", "event": event, **facts}
            for ago, event, facts in events
        ]
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(part) + "\n" for part in parts))
        run_record(updated=now.isoformat(timespec="seconds"), **record).write(tmp_path)
        with sole_writer(tmp_path):
            return read_status(tmp_path)

    return write


def test_the_rate_is_that_of_the_last_minutes(log_of):
    rows = [(3600, "started", {}), (3000, "committed", {"count": 7000}), (200, "committed", {"count": 10})]
    live = log_of([*rows, (100, "committed", {"count": 40})])
    assert live.texts_a_minute == pytest.approx(10, rel=0.02)
    after = log_of([*rows, (100, "finished", {})], state="finished")
    assert after.texts_a_minute == pytest.approx(2, rel=0.02) and after.last_event["event"] == "finished"


def test_the_rate_of_a_run_that_began_a_minute_ago_counts_that_minute(log_of):
    earlier = [(250, "started", {}), (240, "committed", {"count": 7000})]
    assert log_of([*earlier, (60, "started", {}), (30, "committed", {"count": 5})]).texts_a_minute == pytest.approx(
        5, rel=0.05
    )


def test_without_a_word_in_the_log_the_rate_is_that_of_the_whole_run(log_of):
    assert log_of([], counts={"verified": 2}, seconds=5.0).texts_a_minute == 24
    assert log_of([(1, "interrupted", {})], counts={"verified": 2}, seconds=5.0).texts_a_minute == 24
    assert log_of([], counts={}, seconds=0.0).texts_a_minute is None


def test_status_tells_retries_and_the_last_event_on_one_line_each(log_of, capsys):
    from rich.console import Console

    event = {"id": "row\n\x1b[2J", "cause": "unsolved"}
    status = log_of([(1, "retried", event)], retries={"unsolved": 3, "rejected": 1})
    print_status(status, Console(), as_json=False)
    out = capsys.readouterr().out.splitlines()
    assert out[4] == "retries: 1 rejected, 3 unsolved"
    assert "retried, id row\\n\\x1b[2J, cause unsolved" in out[5] and len(out) == 6
    print_status(status, Console(), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["last_event"]["id"] == event["id"] and told["retries"] == {"unsolved": 3, "rejected": 1}
