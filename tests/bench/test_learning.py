"""Training on a GPU, every line of it on the CPU with small numbers."""

import json
from pathlib import Path

import pytest

from bench.gpu import learning
from engine.correction.folder import load_correction
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource

TEXTS = Path(learning.__file__).parents[1] / "english.txt"


@pytest.mark.parametrize(
    ("plan", "arms"), [("linear", ["0 corrections"]), ("step", ["0 corrections", "1 corrections"])]
)
def test_networks_are_trained_compared_and_saved_for_their_model(plan, arms, tmp_path):
    learning.main([
        "--plan", plan, "--small", "--device", "cpu", "--corpus", str(TEXTS), "--held-out", str(TEXTS),
        "--corrections", "0", "1", "--out", str(tmp_path),
    ])  # fmt: skip
    folder = tmp_path / f"pocket-{plan}"
    told = json.loads((folder / "learning.json").read_text())
    assert [row["arm"] for row in told["rows"]] == arms and told["curve"][-1]["positions"] > 0
    assert all(row["texts"] == 4 and row["solved"] == [4, 4] for row in told["rows"])
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in told["rows"])
    assert load_correction(folder, FrozenLM.load(ModelSource("pocket"))).shape.corrector == (
        "none" if plan == "linear" else plan
    )


def test_a_correction_is_charged_as_a_step(tmp_path):
    lm = FrozenLM.load(ModelSource("pocket"))
    targets = learning.targets_of(lm.token_rule, iter(learning.lines(TEXTS)), 2)
    plain = learning.arms(
        lm, learning.Correction(learning.CorrectionShape(corrector="none"), lm.hidden_size), targets, [0]
    )
    same = {"plain": plain["plain"], "3 corrections": plain["plain"]}
    (row,) = learning.compared(lm, same, 2048)
    extra = 3 * sum(job.num_positions for job in plain["plain"]) / len(targets)
    assert row["positions"][0] - row["positions"][1] == pytest.approx(extra) and row["steps"][0] == row["steps"][1]
