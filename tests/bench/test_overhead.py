"""The driver's cost, of a small run on a real Ray."""

import json

import pytest

from bench import overhead


@pytest.mark.ray
@pytest.mark.slow
def test_every_target_is_committed_and_prompts_do_not_pass_through_the_driver(tmp_path):
    sizes = ["--targets", "200", "--calls", "20", "--solvers", "1", "--vectors", "16", "--hidden-size", "4096"]
    overhead.main([*sizes, "--out", str(tmp_path / "overhead.json")])
    record = json.loads((tmp_path / "overhead.json").read_text())
    assert [run["targets"] for run in record["runs"]] == [200] and record["calls"]["targets"] == 20
    assert max(record["bytes_a_target"].values()) < 10_000
