"""What tells early who is certified first: the pairs that count, and who was right about them."""

import json

import numpy as np

from bench import foretelling
from bench.foretelling import LOOKS, Watched, right
from engine.solver import Solver


def test_a_measure_is_right_where_it_puts_the_one_ahead_that_ends_first(tiny_llama):
    watched, look = Watched(Solver(tiny_llama)), LOOKS[0]
    watched.ended = {"text at 2": [("a", 20.0), ("b", 30.0), ("c", 30.0), ("gone", 5.0)]}
    watched.looks = {
        "a": {look: np.array([1.0, -0.2])},
        "b": {look: np.array([-0.3, 1.0])},
        "c": {look: np.array([1.0, -0.1])},
    }
    first, *others = right(watched, ["text at 2"])
    assert first["pairs"] == 2, "b and c end together, and one had ended before the look"
    assert first["right"]["smallest margin"] == 0.5 and first["right"]["tokens right"] == 0.5
    assert first["right"]["exact prefix"] == 0.75, "right of b, undecided of c"
    assert all(row["pairs"] == 0 for row in others)


def test_cases_count_up_to_the_first_with_an_attempt_under_way(tiny_llama):
    watched = Watched(Solver(tiny_llama))
    watched.ended = {"a": [("1", 1.0), ("2", 1.0)], "b": [("1", 1.0)], "c": [("1", 1.0), ("2", 1.0)]}
    assert watched.finished(["a", "b", "c"], {"a": 2, "b": 2, "c": 2}) == ["a"]


def test_one_text_on_the_embedded_model_is_written_to_a_file(tmp_path):
    out = tmp_path / "foretelling.json"
    foretelling.main([
        "--texts", "1", "--lengths", "6", "8", "--tokens-per-vector", "4", "--attempts", "2", "--threads", "1",
        "--out", str(out),
    ])  # fmt: skip
    told = json.loads(out.read_text())
    assert told["cases"] == 1 and [row["step"] for row in told["rows"]] == list(LOOKS)
