"""The account that the other tests rely on: it sees every kind of wrong, and nothing where nothing is."""

import time

import pyarrow.parquet as pq
import pytest

from bench.audit import Audit
from orchestrator.results.compaction import compact
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_log import RunLog
from orchestrator.run.rows import result_row
from tests.orchestrator.made_up import ROW_CONTEXT, run_record, verified_item

TEXTS = {id: f"text of {id}" for id in "abcd"}


def rows(ids):
    return [result_row(verified_item(id), ROW_CONTEXT) for id in ids]


@pytest.fixture
def audit(tmp_path):
    """Of a run that committed two rows of four, and was looked at then."""
    Ledger(tmp_path).commit(rows("ab"))
    audit = Audit(tmp_path, TEXTS)
    audit.look()
    return audit


def test_nothing_is_wrong_with_a_run_that_went_on(audit, tmp_path):
    Ledger(tmp_path).commit(rows("cd"))
    run_record(state="finished", counts={"verified": 4}).write(tmp_path)
    assert audit.conclude() == {}


def test_parts_that_were_merged_hold_the_rows_that_were_there_or_are_found_out(audit, tmp_path):
    run_record(state="finished", counts={"verified": 4}).write(tmp_path)
    for id in ("c", "d", *"efghij"):
        Ledger(tmp_path).commit(rows(id))
    audit.look()
    assert compact(tmp_path) == (9, 1)
    assert "rewritten" not in audit.conclude()
    part = next(iter((tmp_path / "results").iterdir()))
    table = pq.read_table(part)
    steps = table.column("steps").to_pylist()
    pq.write_table(table.set_column(table.schema.names.index("steps"), "steps", [[0, *steps[1:]]]), part)
    Ledger(tmp_path).commit(rows("k"))
    assert audit.conclude()["rewritten"] == ["a", part.name]


def test_every_kind_of_wrong_is_seen(audit, tmp_path):
    time.sleep(0.01)  # the log's times are of whole milliseconds
    with RunLog(tmp_path) as log:
        log.info("solved", id="a")
    (unproved,) = rows("b")
    Ledger(tmp_path).commit([unproved | {"generated_ids": [1]}, *rows("x")])
    part = tmp_path / "results" / "part-00000.parquet"
    pq.write_table(pq.read_table(part), part)
    run_record(state="interrupted", counts={"verified": 2}).write(tmp_path)
    assert audit.conclude() == {
        "lost": ["c", "d"],
        "foreign": ["x"],
        "doubled": ["b"],
        "recomputed": ["a"],
        "rewritten": ["part-00000.parquet"],
        "unproved": ["b", "x"],
        "unfinished": ["interrupted"],
        "miscounted": ["{'verified': 2}"],
    }
