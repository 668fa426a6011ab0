"""The ledger: what the manifest commits is read back bit for bit, what it does not is as if never written."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.console.errors import UserError
from orchestrator.results.ledger import SCHEMA, Ledger
from orchestrator.run.rows import result_row
from orchestrator.storage import local, open_storage
from orchestrator.work.item import Item, State
from tests.orchestrator.made_up import ROW_CONTEXT, D, T, attempt, flip_a_bit_of_the_prompts, job, verified_item

PROMISED = """id text token_ids status exact engine engine_dtype generated_ids num_vectors hidden_size prompt min_margin
first_mismatch steps attempts recipe_hash model_fingerprint seconds""".split()
"""Columns other tools read. The results folder's contract."""

MANIFEST = "manifest.jsonl"

ODD_FLOATS = np.array([0.1, -0.0, 1e-45, 3.4028235e38, math.pi, -1e-30], dtype=np.float32)


def row(id, **changes):
    return result_row(verified_item(id), ROW_CONTEXT) | changes


@pytest.fixture
def ledger(tmp_path):
    """Two parts of two rows."""
    ledger = Ledger(tmp_path / "run")
    ledger.commit([row("a"), row("b")])
    ledger.commit([row("c"), row("d")])
    return ledger


def ids(ledger):
    return [row["id"] for row in Ledger(ledger.folder).read()]


def test_a_part_is_never_in_memory_as_a_whole_while_its_prompts_are_read(tmp_path):
    prompt = np.random.default_rng(0).standard_normal(1 << 16, dtype=np.float32)
    Ledger(tmp_path).commit([row(f"row {n}", prompt=prompt) for n in range(256)])
    before, most = pa.total_allocated_bytes(), 0
    for _ in Ledger(tmp_path).read(["id", "prompt"]):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 256 * prompt.nbytes * 3 / 4


def test_the_schema_holds_every_promised_column():
    assert set(PROMISED) <= set(SCHEMA.names)
    assert set(row("a")) == set(SCHEMA.names)


def test_prompts_come_back_bit_for_bit(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.commit([row("a", prompt=ODD_FLOATS)])
    (stored,) = ledger.read()
    assert np.array(stored["prompt"], dtype=np.float32).tobytes() == ODD_FLOATS.tobytes()


def test_rows_with_many_numbers_are_written_in_several_groups_and_keep_their_order_and_prompts(tmp_path, monkeypatch):
    prompts = [None, np.arange(3, dtype=np.float32), np.arange(3, 9, dtype=np.float32), None, [9.5], None]
    monkeypatch.setattr("orchestrator.results.part_file.GROUP_VALUES", 4)
    Ledger(tmp_path).commit([row(id, prompt=prompt) for id, prompt in zip("abcdef", prompts, strict=True)])
    assert pq.ParquetFile(tmp_path / "results" / "part-00000.parquet").num_row_groups == 2
    stored = list(Ledger(tmp_path).read())
    assert [row["id"] for row in stored] == list("abcdef")
    for found, prompt in zip(stored, prompts, strict=True):
        assert (found["prompt"] is None) == (prompt is None)
        assert prompt is None or np.array_equal(found["prompt"], prompt)


def test_rows_come_back_as_they_were_committed(ledger):
    stored = list(Ledger(ledger.folder).read())
    assert [row["id"] for row in stored] == ["a", "b", "c", "d"]
    committed = Ledger(ledger.folder).committed_ids()
    assert len(committed) == 4 and all(id in committed for id in ("a", "b", "c", "d"))
    for column, value in row("a").items():
        assert np.array_equal(stored[0][column], value), column
    assert ledger.read_id("c")["text"] == "text of c"


def test_a_part_of_an_earlier_version_reads_as_if_it_had_the_later_columns_empty(ledger):
    part = ledger.folder / "results" / "part-00000.parquet"
    pq.write_table(
        pq.read_table(part).drop_columns(["spelling", "proof", "beam_slack"]), part, write_page_checksum=True
    )
    first, _, third, _ = Ledger(ledger.folder).read()
    assert (first["spelling"], third["spelling"]) == (None, "plain") and set(first) == set(SCHEMA.names)
    assert (first["proof"], first["beam_slack"], third["proof"]) == (None, None, "greedy")
    assert [row["spelling"] for row in Ledger(ledger.folder).read(["id", "spelling"])] == [None, None, "plain", "plain"]
    assert Ledger(ledger.folder).read_id("a")["spelling"] is None


def test_a_column_of_an_earlier_version_is_read_under_its_present_name(ledger):
    part = ledger.folder / "results" / "part-00000.parquet"
    table = pq.read_table(part)
    earlier = ["tokens" if name == "positions" else name for name in table.column_names]
    pq.write_table(table.rename_columns(earlier), part, write_page_checksum=True)
    rows = list(Ledger(ledger.folder).read())
    assert [stored["positions"] for stored in rows] == [row("a")["positions"]] * 4 and set(rows[0]) == set(SCHEMA.names)
    assert [stored["positions"] for stored in Ledger(ledger.folder).read(["positions"])] == [row("a")["positions"]] * 4


def test_a_part_whose_commit_failed_is_named_by_no_line(ledger, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    writer = Ledger(ledger.folder)
    writer.committed_ids()
    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space"):
        disk.setattr(local, "cut_torn_line", lambda _: disk.setattr(local.os, "fsync", full))
        writer.commit([row("e")])
    writer.commit([row("f")])  # under the number of the one that failed
    assert ids(ledger) == ["a", "b", "c", "d", "f"]


def test_a_reader_stops_at_a_line_that_is_being_written(ledger):
    lines = (ledger.folder / MANIFEST).read_bytes()
    (ledger.folder / MANIFEST).write_bytes(lines[:-20])
    reading = open_storage(ledger.folder).committed()
    assert next(reading).endswith(b"\n")
    (ledger.folder / MANIFEST).write_bytes(lines[:-20])
    assert list(reading) == []


def test_an_id_without_a_row_is_refused(ledger):
    with pytest.raises(UserError, match="--id x: .* has no such row"):
        ledger.read_id("x")


def test_no_rows_make_no_files(tmp_path):
    Ledger(tmp_path / "run").commit([])
    assert not (tmp_path / "run").exists()


def test_temporary_and_uncommitted_parts_are_as_if_never_written(ledger):
    (ledger.folder / "results" / ".part-00002.parquet.tmp").write_bytes(b"half a part")
    (ledger.folder / "results" / "part-00002.parquet").write_bytes(
        (ledger.folder / "results" / "part-00000.parquet").read_bytes()
    )
    assert ids(ledger) == ["a", "b", "c", "d"]
    Ledger(ledger.folder).commit([row("e")])
    assert ids(ledger) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_torn_manifest_line_commits_nothing_and_the_next_line_stands_alone(ledger, kept):
    first, second = (ledger.folder / MANIFEST).read_bytes().splitlines(keepends=True)
    (ledger.folder / MANIFEST).write_bytes(first + second[:kept])
    assert ids(ledger) == ["a", "b"]
    Ledger(ledger.folder).commit([row("e")])
    assert ids(ledger) == ["a", "b", "e"]


def test_a_damaged_manifest_line_is_refused_with_its_file_named(ledger):
    (ledger.folder / MANIFEST).write_text("garbage\n" + (ledger.folder / MANIFEST).read_text())
    with pytest.raises(UserError, match=r"manifest\.jsonl: damaged"):
        ids(ledger)


def test_one_flipped_bit_in_a_prompt_is_refused_with_its_file_named(ledger):
    path = ledger.folder / "results" / "part-00001.parquet"
    flip_a_bit_of_the_prompts(path)
    rows = Ledger(ledger.folder).read()
    assert [next(rows)["id"], next(rows)["id"]] == ["a", "b"]
    with pytest.raises(UserError, match=r"part-00001\.parquet: damaged"):
        next(rows)


def test_a_missing_part_is_refused_with_its_file_named(ledger):
    (ledger.folder / "results" / "part-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"part-00000\.parquet"):
        ids(ledger)


def test_the_manifest_names_every_id_of_its_parts(ledger):
    for line in (ledger.folder / MANIFEST).read_text().splitlines():
        entry = json.loads(line)
        stored = pq.read_table(ledger.folder / "results" / entry["part"])
        assert stored.column("id").to_pylist() == entry["ids"] and stored.num_rows == entry["rows"]


def test_a_verified_row_says_what_solver_and_verifier_said():
    made = row("a")
    assert (made["status"], made["exact"], made["engine"]) == ("verified", True, "made up 1")
    assert made["generated_ids"] == made["token_ids"] and made["first_mismatch"] == T
    assert (made["num_vectors"], made["hidden_size"], len(made["prompt"])) == (2, D, 2 * D)


def test_a_verdict_does_not_count_for_a_later_attempts_prompt():
    item = verified_item("a")
    item.state, item.attempt = State.UNSOLVED, attempt(job("a"), is_solved=False)
    made = result_row(item, ROW_CONTEXT)
    assert (made["exact"], made["engine"], made["generated_ids"]) == (False, None, None)
    assert made["first_mismatch"] == 1


@pytest.mark.parametrize("text", [None, 5, "a\udcff"])
def test_an_invalid_row_keeps_no_text_that_parquet_cannot_hold(tmp_path, text):
    item = Item(0, "a", text, State.INVALID, reason="not_unicode")
    Ledger(tmp_path).commit([result_row(item, ROW_CONTEXT)])
    (stored,) = Ledger(tmp_path).read()
    assert (stored["text"], stored["prompt"], stored["exact"]) == (None, None, False)


@pytest.mark.parametrize(
    "line",
    ['{"part": "../../elsewhere.parquet", "rows": 1, "ids": ["a"]}', '{"part": "/etc/passwd", "rows": 1, "ids": ["a"]}',
     '{"part": "part-00000.parquet\\u0000", "rows": 1, "ids": ["a"]}', '{"part": 1, "rows": 1, "ids": []}', "[]", "1",
     "[" * 100_000],
    ids=lambda line: line[:24],
)  # fmt: skip
def test_a_manifest_cannot_lead_out_of_the_folder(tmp_path, line):
    (tmp_path / "manifest.jsonl").write_text(line + "\n")
    for read in (Ledger(tmp_path).committed_ids, lambda: list(Ledger(tmp_path).read())):
        with pytest.raises(UserError, match=r"manifest .*manifest\.jsonl: damaged"):
            read()


def test_a_part_of_other_types_is_not_read(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.commit([row("a")])
    (part,) = (tmp_path / "results").iterdir()
    pq.write_table(pa.table({"id": ["a"], "text": pa.array([b"pickled"], pa.large_binary())}), part)
    with pytest.raises(UserError, match="damaged .column text is none of a run's results"):
        list(ledger.read())
