"""The comparison of recipes on three texts: rows beside the first one's, and a recipe that is worse is told from it."""

import json

from bench import recipes


def test_three_texts_under_two_recipes(tmp_path):
    out = tmp_path / "recipes.json"
    recipes.main([
        "--texts", "3", "--lengths", "4", "12", "--only", "default", "per-sample cramming", "--max-steps", "40",
        "--threads", "1", "--out", str(out),
    ])  # fmt: skip
    (record,) = json.loads(out.read_text())
    first, other = record["rows"]
    assert (first["recipe"], first["work"], first["work_interval"]) == ("default", 1.0, [1.0, 1.0])
    assert first["with_margin"] == first["texts"] == 3
    assert other["with_margin"] < 3 and other["work"] >= other["work_interval"][0] > 1.5
