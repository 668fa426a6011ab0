"""`verbatim.load_results`: committed rows of a folder, read as they are asked for."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import verbatim
from orchestrator.results.compaction import compact
from orchestrator.results.ledger import SCHEMA_VERSION, Ledger
from tests.verbatim.made_up import made_row, make_run

K, D = 3, 5


@pytest.fixture
def folder(tmp_path):
    """Two committed parts, and a third file that no line commits."""
    rows = [made_row(n, num_vectors=K + n % 2, hidden_size=D) for n in range(5)]
    rows.append(made_row(5, status="invalid"))
    make_run(tmp_path / "run", rows[:4], rows[4:])
    stray = tmp_path / "run" / "results" / "part-00002.parquet"
    stray.write_bytes((tmp_path / "run" / "results" / "part-00000.parquet").read_bytes())
    return tmp_path / "run"


def test_committed_rows_count_and_no_others(folder):
    stored = verbatim.load_results(folder)
    assert len(stored) == 6 == len(list(stored)) == stored.to_arrow().num_rows == stored.dataset.count_rows()
    assert repr(stored) == f"StoredResults({folder}: 6 of 6 rows, finished)"


def test_prompts_come_by_vectors_and_only_where_asked_for(folder):
    stored = verbatim.load_results(str(folder))
    assert "prompt" not in stored.to_arrow().column_names
    table = stored.to_arrow(["prompt", "id"])
    assert table.column_names == ["prompt", "id"]
    assert table["prompt"].type == pa.list_(pa.list_(pa.float32(), D))
    by_row = [None if row is None else np.array(row, np.float32) for row in table["prompt"].to_pylist()]
    assert [None if p is None else p.shape for p in by_row] == [(K + n % 2, D) for n in range(5)] + [None]
    assert all(np.array_equal(p, r.prompt) for p, r in zip(by_row[:5], stored, strict=False))
    assert stored.to_pandas(["id", "prompt"])["prompt"][1].shape == (K + 1, D)


def test_batches_have_prompts_by_vectors_and_few_rows(folder):
    stored = verbatim.load_results(folder)
    reader = stored.batches(["prompt", "id"], rows=2)
    assert reader.schema.names == ["prompt", "id"]
    assert reader.schema.field("prompt").type == pa.list_(pa.list_(pa.float32(), D))
    batches = list(reader)
    assert [len(batch) for batch in batches] == [2, 2, 2]
    rows = [row for batch in batches for row in batch.to_pylist()]
    for row, result in zip(rows, stored, strict=True):
        assert row["id"] == result.id
        assert (row["prompt"] is None) == (result.prompt is None)
        assert result.prompt is None or np.array_equal(np.array(row["prompt"], np.float32), result.prompt)
    (told,) = stored.batches(["id"], filter=~pc.field("exact"))
    assert told["id"].to_pylist() == ["row-5"]
    assert "prompt" not in stored.batches().schema.names and stored.batches().read_all().num_rows == 6


def test_rows_read_while_parts_are_merged_are_each_there_once(tmp_path):
    make_run(tmp_path / "run", *([made_row(n, num_vectors=K, hidden_size=D)] for n in range(10)))
    results = iter(verbatim.load_results(tmp_path / "run"))
    ids = [next(results).id, next(results).id]
    assert compact(tmp_path / "run") == (10, 1)
    assert ids + [result.id for result in results] == [f"row-{n}" for n in range(10)]
    assert verbatim.load_results(tmp_path / "run").to_arrow(["id"]).num_rows == 10


def test_a_filter_is_answered_from_the_files(folder):
    table = verbatim.load_results(folder).to_arrow(["id"], filter=pc.field("status") == "invalid")
    assert table["id"].to_pylist() == ["row-5"]


def test_a_folder_that_an_earlier_version_began_has_todays_columns(folder):
    part = folder / "results" / "part-00000.parquet"
    table = pq.read_table(part)
    earlier = ["tokens" if name == "positions" else name for name in table.column_names]
    pq.write_table(table.rename_columns(earlier), part, write_page_checksum=True)
    record = (folder / "run.json").read_text()
    (folder / "run.json").write_text(record.replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 4'))
    stored = verbatim.load_results(folder)
    told = stored.to_arrow(["positions", "id"])["positions"].to_pylist()
    assert told == [made_row(n)["positions"] for n in range(5)] + [0] == [result.positions for result in stored]
    worked = stored.to_arrow(["id"], filter=pc.field("positions") > 0)
    assert worked["id"].to_pylist() == [f"row-{n}" for n in range(5)]


def test_a_row_is_found_by_its_id(folder):
    assert verbatim.load_results(folder)["row-3"].num_vectors == K + 1


def test_mistakes_name_what_was_asked_for(folder, tmp_path):
    stored = verbatim.load_results(folder)
    with pytest.raises(verbatim.VerbatimError, match="^columns: no column 'idd'; there are id, row"):
        stored.to_arrow(["idd"])
    with pytest.raises(verbatim.VerbatimError, match="^id = 'row-77': .* has no such row"):
        stored["row-77"]
    with pytest.raises(verbatim.VerbatimError, match="no run.json there"):
        verbatim.load_results(tmp_path)
    with pytest.raises(verbatim.VerbatimError, match="^folder: is empty"):
        verbatim.load_results("")


def test_a_damaged_part_is_told_and_not_read(folder):
    part = folder / "results" / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[200] ^= 1
    part.write_bytes(content)
    with pytest.raises(verbatim.VerbatimError, match="part-00000.parquet: damaged"):
        list(verbatim.load_results(folder))


def test_a_folder_under_way_is_read_as_far_as_it_is(folder):
    Ledger(folder).commit([made_row(6, num_vectors=K, hidden_size=D)])
    assert len(verbatim.load_results(folder)) == 7


def test_duckdb_reads_the_data_set_and_the_stream(folder):
    duckdb = pytest.importorskip("duckdb", reason="no part of the environment; run where it is installed")
    stored = verbatim.load_results(folder)
    dataset, batches = stored.dataset, stored.batches(["id", "prompt"])
    (counted,) = duckdb.sql("select count(*) from dataset").fetchall()
    assert counted == (len(stored),)
    sizes = dict(duckdb.sql("select id, len(prompt) from batches").fetchall())
    assert sizes == {result.id: None if result.prompt is None else len(result.prompt) for result in stored}
    assert dataset is not None and batches is not None


def test_datasets_of_hugging_face_reads_the_stream_and_the_table(folder):
    datasets = pytest.importorskip("datasets", reason="no part of the environment; run where it is installed")
    stored = verbatim.load_results(folder)
    rows = datasets.IterableDataset.from_generator(
        lambda: (row for batch in stored.batches(["id", "prompt"]) for row in batch.to_pylist())
    )
    expected = {result.id: result.prompt for result in stored}
    for given in (rows, datasets.Dataset(stored.to_arrow(["id", "prompt"]))):
        prompts = {row["id"]: row["prompt"] for row in given}
        assert prompts.keys() == expected.keys()
        for id, prompt in expected.items():
            assert prompts[id] is prompt is None or np.array_equal(np.float32(prompts[id]), prompt)
