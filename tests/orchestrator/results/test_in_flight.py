"""Checkpoints on disk: a head start where they are sound, nothing where they are not."""

import pytest

from engine.checkpoint import Checkpoint, to_bytes
from orchestrator.results import in_flight
from orchestrator.results.in_flight import InFlight
from tests.orchestrator.made_up import job

JOB = job("a")
CONTENT = to_bytes(Checkpoint(JOB, [{"step": 3}]))


@pytest.fixture
def kept(tmp_path):
    flight = InFlight(tmp_path)
    flight.keep({0: CONTENT, 7: CONTENT})
    return flight


def test_what_is_kept_is_recalled_for_its_own_row_and_text_alone(kept):
    assert kept.recall(7, JOB.target) == (JOB, CONTENT)
    assert kept.recall(1, JOB.target) is None
    assert kept.recall(7, job("b").target) is None


def test_rows_that_have_their_result_are_forgotten_and_a_finished_run_leaves_nothing(kept, tmp_path):
    kept.forget([0, 3])
    assert kept.recall(0, JOB.target) is None and kept.recall(7, JOB.target) is not None
    kept.clear()
    assert list(tmp_path.iterdir()) == []
    kept.clear()


@pytest.mark.parametrize("content", [b"", CONTENT[:-9], b"\x80\x04}."])
def test_a_torn_or_foreign_file_is_no_head_start(content, kept, tmp_path):
    (tmp_path / "in_flight" / "7.safetensors").write_bytes(content)
    assert kept.recall(7, JOB.target) is None


def test_a_checkpoint_too_large_to_be_worth_it_is_not_kept(kept, monkeypatch):
    monkeypatch.setattr(in_flight, "MAX_BYTES", len(CONTENT) - 1)
    kept.keep({5: CONTENT})
    assert kept.recall(5, JOB.target) is None and kept.recall(7, JOB.target) is None


def test_a_store_that_refuses_ends_nothing_and_is_tried_again_with_the_next_checkpoint(tmp_path):
    refusals = []
    flight = InFlight(tmp_path, refusals.append)
    (tmp_path / "in_flight").write_text("where the folder would be")
    for _ in range(2):
        flight.keep({0: CONTENT})
    flight.forget([0])
    assert len(refusals) == 3 and all(isinstance(refusal, OSError) for refusal in refusals)
    (tmp_path / "in_flight").unlink()
    flight.keep({0: CONTENT})
    assert flight.recall(0, JOB.target) == (JOB, CONTENT) and len(refusals) == 3
