"""Every question about what the solver's cost grows with, on two texts."""

import json

import pytest

from bench import scaling

VALUES = {
    "slots": ("64", "128"), "length": ("8", "16"), "vectors": ("4", "8"), "vocabulary": ("512", "1024"),
    "refill": ("40", "2000"),
}  # fmt: skip


@pytest.mark.parametrize("question", VALUES)
def test_a_question_on_two_texts(question, tmp_path):
    out = tmp_path / "scaling.json"
    scaling.main([
        question, "--values", *VALUES[question], "--texts", "2", "--table", "64", "--steps", "1", "--repeats", "1",
        "--max-steps", "30", "--threads", "1", "--out", str(out),
    ])  # fmt: skip
    (record,) = json.loads(out.read_text())
    assert record["question"] == question and tuple(record["turns"]) == VALUES[question]
    assert all(number > 0 for numbers in record["turns"].values() for number in numbers)
    if question == "refill":
        assert all(0 < share <= 1 for shares in record["turns"].values() for share in shares)
    elif question in ("slots", "vocabulary"):
        assert record["ratios"][VALUES[question][0]] == [1.0, 1.0, 1.0]


def test_a_part_of_the_texts_is_solved_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(scaling, "_barrier", type("Alone", (), {"wait": staticmethod(lambda: 0)}))
    args = type("Args", (), {"model": "pocket", "corpus": "demo", "texts": 4, "max_steps": 200, "table": 512})
    solved, began, ended = scaling.solve_part(args, 1, part=1, number=2)
    assert solved == 2 and began < ended
