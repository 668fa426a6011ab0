"""Where the time of two texts goes: the shares are there and make a whole."""

import json

import pytest

from bench import time_shares


def test_two_texts(tmp_path):
    out = tmp_path / "shares.json"
    time_shares.main(["--texts", "2", "--engine", "hf", "--repeats", "1", "--threads", "1", "--out", str(out)])
    ((turn,),) = [record["turns"] for record in json.loads(out.read_text())]
    assert turn["exact"] == 2 and turn["slot_steps"] >= 2
    assert turn["model"] + turn["host"] + turn["proof"] == pytest.approx(1)
    assert turn["model"] > turn["host"] > 0
