"""A solver and a verifier side by side: every line of the measurement on a card, here without one."""

import json
from concurrent.futures import ThreadPoolExecutor

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
        "--device", "cpu", "--engine", "hf", "--texts", "2", "--judged", "1", "--starts", *ONE_BY_ONE,
        "--out", str(out),
    ])  # fmt: skip
    told = json.loads(out.read_text())
    for start in ONE_BY_ONE:
        assert "failed" not in told[start], told[start]
        assert told[start]["exact"] == told[start]["candidates"] == 2
        assert not told[start]["alone"]["shortage"] and told[start]["slowed_to"] > 0
    assert told["table"] > 0 and told["cache_bytes"] > 0


def test_an_order_that_fails_is_told_and_the_next_one_is_tried(here, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(shared_card, "one_start", lambda start, *_: tried.append(start) or 1 / 0)
    out = tmp_path / "shared.json"
    shared_card.main(["--device", "cpu", "--engine", "hf", "--texts", "1", "--out", str(out)])
    assert tried == list(shared_card.STARTS)
    assert json.loads(out.read_text())["together"]["failed"].startswith("ZeroDivisionError")
