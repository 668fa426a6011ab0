"""The way of texts beside the results: what is kept, and that what is torn harms nobody."""

import numpy as np
import pytest
import torch

from engine.trajectory import Trajectory
from orchestrator.results import history
from orchestrator.results.history import History, read_history

T = 5


def way(num_steps=3, num_tokens=T):
    trajectory = Trajectory()
    for step in range(num_steps):
        trajectory.add(step, torch.full((num_tokens,), float(step)))
    return trajectory


def row(id, number=0, *, exact=False):
    return {"id": id, "row": number, "exact": exact, "token_ids": [1] * T}


def test_what_was_kept_is_read_again(tmp_path):
    kept = History(tmp_path)
    kept.add({"a": way(), "b": way(), "under way": way()})
    kept.commit([row("a", 7), row("b", 8, exact=True)])
    found = read_history(tmp_path, {"a": T, "b": T, "under way": T})
    assert set(found) == {"a", "b"} and found["a"]["steps"] == [0, 1, 2]
    assert [set(np.frombuffer(frame, np.int8)) for frame in found["a"]["frames"]] == [{0}, {8}, {16}]


def test_a_later_attempt_takes_the_place_of_an_earlier_one(tmp_path):
    kept = History(tmp_path)
    kept.add({"a": way(9)})
    kept.add({"a": way(2)})
    kept.commit([row("a")])
    assert read_history(tmp_path, {"a": T})["a"]["steps"] == [0, 1]


def test_both_kinds_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "MOST_EXACT", 2)
    monkeypatch.setattr(history, "MOST_OTHERS", 3)
    ids = [f"{kind}{n}" for n in range(6) for kind in ("exact", "other")]
    kept = History(tmp_path)
    kept.add({id: way() for id in ids})
    kept.commit([row(id, n, exact=id.startswith("exact")) for n, id in enumerate(ids)])
    found = read_history(tmp_path, dict.fromkeys(ids, T))
    assert sorted(found) == ["exact0", "exact1", "other0", "other1", "other2"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"a": 1}', b'{"a": {"steps": [0], "margins": "AAAA"}}', b'{"a": {"steps": [0]}}']
)
def test_what_is_torn_or_of_another_text_is_left_out(tmp_path, content):
    (tmp_path / history.FOLDER).mkdir()
    (tmp_path / history.FOLDER / "000000000.json").write_bytes(content)
    assert read_history(tmp_path, {"a": T}) == {}
