"""Parts merged at a run's end: every row once, in its order, whatever is killed, and readers go on."""

import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.console.errors import UserError
from orchestrator.results import compaction
from orchestrator.results.compaction import compact
from orchestrator.results.ledger import Ledger
from orchestrator.results.manifest import Manifest
from orchestrator.run.rows import result_row
from orchestrator.storage import open_storage
from tests.orchestrator import bucket, killed
from tests.orchestrator.made_up import ROW_CONTEXT, verified_item

IDS = [f"row-{number}" for number in range(20)]


def commit(place, ids=IDS):
    ledger = Ledger(place)
    for number, id in enumerate(ids):
        ledger.commit([result_row(verified_item(id, row=number), ROW_CONTEXT)])


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path):
    """A run's folder with twenty parts of a row."""
    place = tmp_path / "run" if request.param == "disk" else bucket.uri(tmp_path / "run")
    commit(place)
    return place


def ids(place):
    return [row["id"] for row in Ledger(place).read(["id"])]


def test_many_parts_become_few_and_every_row_is_as_it_was(place):
    before = list(Ledger(place).read())
    assert compact(place) == (20, 1)
    after = list(Ledger(place).read())
    assert ids(place) == IDS and len(open_storage(place).names("results")) == 1
    for then, now in zip(before, after, strict=True):
        assert then.keys() == now.keys() and all(np.array_equal(then[name], now[name]) for name in then)
    assert len(Ledger(place).committed_ids()) == 20
    assert Ledger(place).read_id("row-7")["row"] == 7


def test_what_no_line_will_ever_name_is_swept_and_what_one_may_name_stays(place):
    storage = open_storage(place)
    dead = ["part-00003-0123abcd.parquet", ".part-00019-0123abcd.parquet.tmp"]
    alive = ["part-00020-0123abcd.parquet", ".part-00021-0123abcd.parquet.tmp", "notes.txt"]
    storage.replace({f"results/{name}": b"" for name in (*dead, *alive)})
    assert Manifest(storage).unneeded(storage.names("results")) == set(dead)
    compact(place)
    assert len(storage.names("results")) == 2 and "notes.txt" in storage.names("results"), "its own lines took theirs"
    assert ids(place) == IDS


def test_merging_again_does_nothing_until_there_is_more_and_rows_come_after_it(place):
    compact(place)
    names = open_storage(place).names("results")
    assert compact(place) is None and open_storage(place).names("results") == names
    more = [f"more-{number}" for number in range(9)]
    commit(place, more)
    assert ids(place) == IDS + more
    assert compact(place) == (10, 1) and ids(place) == IDS + more


def test_a_large_part_stays_and_parts_are_no_larger_than_they_should_be(place, monkeypatch):
    storage = open_storage(place)
    size = max(compaction._size(storage, entry["part"]) for entry in Manifest(storage).entries())
    monkeypatch.setattr(compaction, "PART_BYTES", 3 * size)
    before, after = compact(place) or (0, 0)
    assert before == 20 and 7 <= after <= 10 and ids(place) == IDS
    assert len(storage.names("results")) == after
    (first, *_), names = Manifest(storage).entries(), set(storage.names("results"))
    assert len(first["ids"]) in (2, 3)
    commit(place, [f"more-{number}" for number in range(30)])
    monkeypatch.setattr(compaction, "PART_BYTES", size)
    assert compact(place) is None  # nothing would be gained
    assert names <= set(storage.names("results"))


def test_a_reader_that_had_begun_goes_on_behind_its_last_row(place):
    rows = Ledger(place).read(["id"])
    begun = [next(rows)["id"] for _ in range(5)]
    assert compact(place) == (20, 1)
    assert begun + [row["id"] for row in rows] == IDS


def test_who_slept_before_taking_old_parts_away_leaves_what_another_process_is_merging(place, monkeypatch):
    """The lease of a folder in a store runs out under a process that sleeps; its last step comes when it wakes."""
    compact(place)
    more = [f"more-{number}" for number in range(9)]
    commit(place, more)
    woken = []

    def wake(point):
        if point == "compaction.after_lines":
            compaction.take_away(open_storage(place))
            woken.append(point)

    monkeypatch.setattr(compaction, "fail_point", wake)
    assert compact(place) == (10, 1) and woken
    assert ids(place) == IDS + more and len(open_storage(place).names("results")) == 1


def test_a_part_that_is_gone_for_another_reason_is_named(place):
    storage = open_storage(place)
    name = next(Manifest(storage).entries())["part"]
    storage.delete([f"results/{name}"])
    with pytest.raises(UserError, match=rf"results part {place}/results/{name}: damaged"):
        ids(place)
    with pytest.raises(FileNotFoundError):
        compact(place)


def test_few_parts_are_left_alone(tmp_path):
    commit(tmp_path, IDS[:7])
    assert compact(tmp_path) is None and len(open_storage(tmp_path).names("results")) == 7


def test_a_part_of_an_earlier_version_gets_the_columns_that_came_later(tmp_path):
    commit(tmp_path)
    part = tmp_path / "results" / "part-00003.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["spelling", "proof"]), part, write_page_checksum=True)
    assert compact(tmp_path) == (20, 1)
    spellings = [row["spelling"] for row in Ledger(tmp_path).read(["id", "spelling"])]
    assert spellings[2:5] == ["plain", None, "plain"]


def test_rows_other_than_the_manifest_s_are_not_merged(tmp_path):
    commit(tmp_path)
    results = tmp_path / "results"
    (results / "part-00003.parquet").write_bytes((results / "part-00004.parquet").read_bytes())
    with pytest.raises(ValueError, match="hold other rows than the manifest says"):
        compact(tmp_path)
    assert len(list(Manifest(open_storage(tmp_path)).entries())) == 20


@pytest.mark.parametrize(("point", "number"), [
    ("compaction.after_part", 1), ("compaction.after_part", 2), ("compaction.after_lines", 1),
    ("compaction.after_close", 1),
])  # fmt: skip
def test_a_kill_at_any_point_loses_nothing_and_doubles_nothing(point, number, tmp_path, drive):
    assert drive(killed.commit_all, tmp_path) == 0
    before = ids(tmp_path)
    assert drive(killed.merge_parts, tmp_path, point, number) == -signal.SIGKILL
    assert ids(tmp_path) == before == list(killed.IDS)
    commit(tmp_path, ["late"])  # another call goes on as if nothing had been tried
    assert ids(tmp_path) == [*before, "late"]
    assert drive(killed.merge_parts, tmp_path) == 0
    assert ids(tmp_path) == [*before, "late"]
    named = {entry["part"] for entry in Manifest(open_storage(tmp_path)).entries()}
    assert {path.name for path in (tmp_path / "results").iterdir()} == named
