"""A solver and a verifier side by side: every line of the measurement on a card, here without one."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from bench.gpu import shared_card

ONE_BY_ONE = ("verifier first", "solver first")
"""transformers loads one model at a time in a process: of two threads one leaves weights untied for good."""


@pytest.fixture
def here(monkeypatch):
    """Threads, since a process takes seconds to start."""
    monkeypatch.setattr(shared_card, "process", lambda: ThreadPoolExecutor(1))


def test_two_texts_in_two_orders_of_start(here, tmp_path):
    out = tmp_path / "shared.json"
    shared_card.main([
        "--device", "cpu", "--engine", "hf", "--texts", "2", "--starts", *ONE_BY_ONE, "--out", str(out),
    ])  # fmt: skip
    told = json.loads(out.read_text())
    for start in ONE_BY_ONE:
        assert "failed" not in told[start], told[start]
        assert told[start]["exact"] == told[start]["candidates"] == 2
        assert not told[start]["alone"]["shortage"] and told[start]["slowed_to"] > 0
        assert told[start]["beside"]["judged"] > 0
    assert told["table"] > 0 and told["cache_bytes"] > 0


class Slow:
    """A verifier that counts its judgings, and a solver that ends once three more are done."""

    def __init__(self):
        self.num_judged = 0

    def judge(self, candidates):
        time.sleep(0.01)
        self.num_judged += 1
        return []

    def advance(self, jobs, seconds):
        before = self.num_judged
        while self.num_judged < before + 3:
            time.sleep(0.001)
        return SimpleNamespace(num_positions=1.0, seconds=0.1, table_positions=1, shortage=None)


def test_the_verifier_is_at_work_as_long_as_the_solver_and_no_longer(monkeypatch):
    both = Slow()
    monkeypatch.setattr(shared_card, "held", {"solver": both, "verifier": both})
    with ThreadPoolExecutor(1) as solving, ThreadPoolExecutor(1) as judging:
        told = shared_card.solve_beside(solving, judging, [], [], "cpu")
        assert told["judged"] == both.num_judged >= 3
        monkeypatch.setattr(both, "advance", lambda jobs, seconds: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shared_card.solve_beside(solving, judging, [], [], "cpu")


def test_an_order_that_fails_is_told_and_the_next_one_is_tried(here, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(shared_card, "one_start", lambda start, *_: tried.append(start) or 1 / 0)
    out = tmp_path / "shared.json"
    shared_card.main(["--device", "cpu", "--engine", "hf", "--texts", "1", "--out", str(out)])
    assert tried == list(shared_card.STARTS)
    assert json.loads(out.read_text())["together"]["failed"].startswith("ZeroDivisionError")
