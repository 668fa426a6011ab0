"""Checkpoints on disk: a head start where they are sound, nothing where they are not."""

import pytest

from engine.checkpoint import Checkpoint, to_bytes
from orchestrator.results import in_flight
from orchestrator.results.in_flight import FOLDER, InFlight, file_of
from tests.orchestrator.made_up import job

JOB = job("a")
CONTENT = to_bytes(Checkpoint(JOB, [{"step": 3}]))


@pytest.fixture
def left(tmp_path):
    """Leaves a file for row 7; what the next call finds."""

    def leave(content=CONTENT):
        (tmp_path / FOLDER).mkdir()
        (tmp_path / FOLDER / file_of(7)).write_bytes(content)
        return InFlight(tmp_path)

    return leave


def test_what_was_left_is_recalled_for_its_own_row_and_text_alone(left):
    flight = left()
    assert flight.recall(7, JOB.target) == (JOB, CONTENT)
    assert flight.recall(1, JOB.target) is None
    assert flight.recall(7, job("b").target) is None


@pytest.mark.parametrize("content", [b"", CONTENT[:-9], b"\x80\x04}."])
def test_a_torn_or_foreign_file_is_no_head_start(content, left):
    assert left(content).recall(7, JOB.target) is None


def test_a_file_larger_than_any_that_is_kept_is_none_either(left, monkeypatch):
    monkeypatch.setattr(in_flight, "MAX_BYTES", len(CONTENT) - 1)
    assert left().recall(7, JOB.target) is None
