"""The ledger under kill -9 at every point of a commit: every row ends up in it, and none twice."""

import signal

import pyarrow.parquet as pq
import pytest

from orchestrator.results.ledger import Ledger
from tests.orchestrator import killed
from tests.orchestrator.killed import IDS, POINTS


def assert_every_row_is_there_once(folder):
    rows = list(Ledger(folder).read())
    assert sorted(row["id"] for row in rows) == list(IDS)
    assert {row["id"]: row["row"] for row in rows} == {id: IDS.index(id) for id in IDS}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_of_a_commit_loses_nothing_and_doubles_nothing(point, number, tmp_path, drive):
    assert drive(killed.commit_all, tmp_path, point, number) == -signal.SIGKILL
    done = Ledger(tmp_path).committed_ids()
    parts = {entry["part"] for entry in Ledger(tmp_path).entries()}
    before = {name: (tmp_path / "results" / name).read_bytes() for name in parts}

    assert drive(killed.commit_all, tmp_path, point, 2) in (-signal.SIGKILL, 0), "and killed once more"
    assert drive(killed.commit_all, tmp_path) == 0
    assert_every_row_is_there_once(tmp_path)
    assert {name: (tmp_path / "results" / name).read_bytes() for name in parts} == before
    kept = {id for name in parts for id in pq.read_table(tmp_path / "results" / name)["id"].to_pylist()}
    assert len(kept) == len(done) and all(id in done for id in kept), "what was committed is not computed again"


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path, drive):
    assert drive(killed.commit_to_a_full_disk, tmp_path) == 1
    assert list(Ledger(tmp_path).read()) == []
    assert drive(killed.commit_all, tmp_path) == 0
    assert_every_row_is_there_once(tmp_path)
