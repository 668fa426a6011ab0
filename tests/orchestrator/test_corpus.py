"""Corpora: four formats in, columns chosen, ids given, damage told in one line."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.corpus import CorpusRow, open_corpus
from orchestrator.errors import UserError

TEXTS = ["one", "two, with a comma", 'three "quoted"\nover two lines']


def pairs(path, **columns):
    return [(row.id, row.text) for row in open_corpus(path, **columns).rows()]


def write_parquet(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "ndjson", "csv"])
def test_every_table_format_gives_the_same_rows(tmp_path, write_jsonl, kind):
    path = tmp_path / f"corpus.{kind}"
    ids = ["a", "b", "c"]
    if kind == "parquet":
        write_parquet(path, {"id": ids, "text": TEXTS})
    elif kind == "csv":
        path.write_text('id,text\na,one\nb,"two, with a comma"\nc,"three ""quoted""\nover two lines"\n')
    else:
        write_jsonl(path, [{"id": id, "text": text} for id, text in zip(ids, TEXTS, strict=True)])
    corpus = open_corpus(path)
    assert corpus.num_rows == 3
    assert list(corpus.rows()) == [CorpusRow(row, *pair) for row, pair in enumerate(zip(ids, TEXTS, strict=True))]


def test_a_text_file_has_one_text_a_line_and_blank_lines_separate(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"first\r\n\r\n  second \nlast without end")
    assert pairs(path) == [("row-0", "first"), ("row-1", "  second "), ("row-2", "last without end")]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt"])
def test_a_byte_order_mark_is_no_part_of_the_first_text(tmp_path, kind):
    path = tmp_path / f"corpus.{kind}"
    body = {"jsonl": '{"text": "one"}\n', "csv": "text\none\n", "txt": "one\n"}[kind]
    path.write_text(body, encoding="utf-8-sig")
    assert pairs(path) == [("row-0", "one")]


def test_csv_keeps_empty_cells_and_leading_zeros(tmp_path):
    path = tmp_path / "corpus.csv"
    path.write_text("id,text\n007,0042\n008,\n009,null\n")
    assert pairs(path) == [("007", "0042"), ("008", ""), ("009", "null")]


def test_the_usual_text_columns_are_taken_in_order_and_others_by_name(tmp_path):
    path = write_parquet(tmp_path / "c.parquet", {"content": ["c"], "sentence": ["s"], "other": ["o"], "key": ["k"]})
    assert pairs(path) == [("row-0", "s")]
    assert pairs(path, text_column="other", id_column="key") == [("k", "o")]


@pytest.mark.parametrize(("flag", "asked"), [("text", "sentense"), ("id", "idd")])
def test_a_column_that_is_not_there_is_refused_with_the_nearest_name(tmp_path, flag, asked):
    path = write_parquet(tmp_path / "c.parquet", {"sentence": ["s"], "id": ["i"]})
    near = {"sentense": "sentence", "idd": "id"}[asked]
    with pytest.raises(UserError, match=rf"--{flag}-column {asked}: .*did you mean {near}\?"):
        open_corpus(path, **{f"{flag}_column": asked})


def test_without_a_usual_text_column_the_columns_are_listed(tmp_path):
    path = write_parquet(tmp_path / "c.parquet", {"body": ["b"], "number": [1]})
    with pytest.raises(UserError, match="choose one of body, number with --text-column"):
        open_corpus(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("text,text\na,b\n")
    with pytest.raises(UserError, match="2 columns are named text"):
        open_corpus(path)


def test_ids_are_strings_whatever_the_file_holds(tmp_path):
    path = write_parquet(tmp_path / "c.parquet", {"id": pa.array([7, None, -1]), "text": TEXTS})
    assert [row.id for row in open_corpus(path).rows()] == ["7", None, "-1"]


def test_an_id_that_is_not_unicode_is_spelled_out_so_that_results_can_hold_it(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "a\\ud800", "text": "one"}\n')
    assert pairs(path) == [("a\\ud800", "one")]


def test_invalid_utf8_in_a_parquet_column_stays_recognisable_beside_sound_texts(tmp_path):
    raw = pa.array([b"sound", b"bro\xffken", None])
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    path = write_parquet(tmp_path / "c.parquet", {"text": text})
    assert [row.text for row in open_corpus(path).rows()] == ["sound", "bro\udcffken", None]


def test_values_that_are_no_strings_pass_through_for_the_target_to_refuse(tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "c.jsonl", [{"text": 5}, {"text": ["a"]}, {"other": "x"}])
    assert [row.text for row in open_corpus(path).rows()] == [5, ["a"], None]


DAMAGED = {
    "empty.parquet": (b"", "not a readable PARQUET file"),
    "foreign.parquet": (b"id,text\na,b\n", "not a readable PARQUET file"),
    "truncated.parquet": (None, "not a readable PARQUET file"),
    "empty.csv": (b"", "not a readable CSV file"),
    "ragged.csv": (b"id,text\na,b,c\n", "not a readable CSV file"),
    "latin.csv": (b"text\nna\xefve\n", "not a readable CSV file"),
    "header.csv": (b"id,text\n", "holds no rows"),
    "torn.jsonl": (b'{"text": "a"}\n{"text": "b', "line 2 is not JSON"),
    "list.jsonl": (b'["a"]\n', "line 1 is not a JSON object"),
    "latin.jsonl": (b'{"text": "na\xefve"}\n', "not a readable JSONL file"),
    "empty.jsonl": (b"", "holds no rows"),
    "latin.txt": (b"na\xefve\n", "not a readable TXT file"),
    "blank.txt": (b"\n\n", "holds no rows"),
    "corpus.xlsx": (b"PK", "unknown kind .xlsx"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_or_foreign_file_is_one_line_that_names_it(tmp_path, name):
    path = tmp_path / name
    content, complaint = DAMAGED[name]
    if content is None:
        content = write_parquet(path, {"text": TEXTS}).read_bytes()[:-20]
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        open_corpus(path)
    assert str(path) in str(error.value) and complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused_with_the_formats_that_are_read(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.parquet: no such file; give a \.parquet, \.jsonl, \.csv or \.txt"):
        open_corpus(tmp_path / "nowhere.parquet")


def test_rows_stream_in_batches_so_late_damage_is_met_late(tmp_path):
    num_rows, group = 40_000, 10_000
    texts = [f"text number {row} of many" for row in range(num_rows)]
    path = write_parquet(
        tmp_path / "c.parquet", {"text": texts}, row_group_size=group, write_page_checksum=True, use_dictionary=False
    )
    last = pq.read_metadata(path).row_group(3).column(0)
    content = bytearray(path.read_bytes())
    content[last.data_page_offset + last.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    rows = open_corpus(path).rows()
    early = [next(rows) for _ in range(group)]
    assert [row.text for row in early] == texts[:group]
    with pytest.raises(UserError, match=r"c\.parquet: damaged after row \d+"):
        for row in rows:
            assert row.text == texts[row.row]


def test_jsonl_columns_are_those_of_any_line(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [{"id": "a"}, {"text": "late"}]))
    assert pairs(path) == [("a", None), (None, "late")]
