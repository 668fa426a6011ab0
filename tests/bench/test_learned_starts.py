"""What a learned start is worth: its arms, its own arithmetic, and what of it stands on the page."""

import pytest

from bench import correction_report, learned_starts
from bench.learned_starts import measured, own_positions, recipes_of, texts_of
from engine.correction.folder import load_correction, save_correction
from engine.samples import sample_targets
from tests.engine.correction.networks import correction, some_targets


@pytest.fixture
def folder(tmp_path, tiny_llama):
    save_correction(tmp_path, correction(tiny_llama, "step"), tiny_llama)
    return tmp_path


def test_every_arm_solves_the_same_texts_and_is_charged_for_its_networks(folder, tiny_llama):
    targets = list(sample_targets(tiny_llama.token_rule, 8))[:2]
    recipes = recipes_of(folder, [0, 2], ["max_steps=3"])
    made = load_correction(folder, tiny_llama)
    (plain, start, corrected), attempts = measured(tiny_llama, made, recipes, targets, 4.0)
    assert [row["texts"] for row in (plain, start, corrected)] == [2, 2, 2] and len(attempts) == 6
    assert corrected["mean_positions"] == start["mean_positions"] + 2 * start["mean_positions"] / 4, "2 looks, 4 passes"
    assert 0 < start["own_positions"] < corrected["own_positions"]
    assert all(row["ratio_with_own"] > row["ratio"] for row in (start, corrected))


def test_a_networks_arithmetic_is_told_in_positions_of_a_step(tiny_llama):
    target_T = some_targets()[4]
    counts = [own_positions(tiny_llama, correction(tiny_llama, "step"), target_T, 5, n) for n in (0, 1, 3)]
    assert counts[2] - counts[1] == pytest.approx(2 * (counts[1] - counts[0])) and counts[1] > counts[0] > 0


def test_other_seeds_draw_other_texts(tiny_llama):
    first, again, other = ({t.id for t in texts_of(tiny_llama, (4, 40), 5, seed)} for seed in (1, 1, 2))
    assert first == again != other and len(first) == 5


def test_records_are_kept_one_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(learned_starts, "RESULTS", tmp_path / "records.json")
    for number in (1, 2):
        learned_starts.keep({"number": number})
    assert (tmp_path / "records.json").read_text() == '[\n{"number":1},\n{"number":2}\n]\n'


@pytest.mark.parametrize(("high", "said"), [
    (0.994, "34 texts"), (0.9951, "not known to pay"), (1.05, "not known to pay"),
])  # fmt: skip
def test_a_training_is_not_known_to_pay_where_the_interval_that_is_told_reaches_1(high, said):
    assert correction_report.pays_from({"high": high, "trained": 100, "saved": 3.0}) == said


def test_the_page_tells_what_was_recorded():
    page = correction_report.PAGE.read_text()
    assert correction_report.BEGIN + correction_report.table() + correction_report.END in page
    assert correction_report.PICTURE.read_text() == correction_report.picture()
