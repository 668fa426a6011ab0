"""The comparison of who writes checkpoints, with small prompts on a real Ray."""

import json

import pytest

from bench import checkpoint_costs


@pytest.mark.ray
@pytest.mark.slow
def test_both_ways_write_every_checkpoint_and_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint_costs, "SIZES", ((4, 32, 8),))
    checkpoint_costs.main(["--rounds", "1", "--out", str(tmp_path / "costs.json")])
    (row,) = json.loads((tmp_path / "costs.json").read_text())["sizes"]
    assert row["texts"] == 8 and row["task_us"] > 0 and row["driver_us"] > 0
