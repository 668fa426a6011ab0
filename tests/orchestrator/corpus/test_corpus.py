"""Corpora: tables in, columns chosen, ids given, damage told in one line."""

import json
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.console.errors import UserError
from orchestrator.corpus import CorpusRow, Reading, open_corpus

TEXTS = ["one", "two, with a comma", 'three "quoted"\nover two lines']


def pairs(path, **columns):
    return [(row.id, row.text) for row in open_corpus(path, Reading(**columns)).rows()]


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
        open_corpus(path, Reading(**{f"{flag}_column": asked}))


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
    "empty.csv": (b"", "is empty; its first line must name the columns"),
    "ragged.csv": (b"id,text\na,b,c\n", "row 0, from line 2 on: 3 cells where the first line has 2"),
    "latin.csv": (b"text\nna\xefve\n", "line 2 is not UTF-8 (byte 0xef)"),
    "header.csv": (b"id,text\n", "holds no rows"),
    "torn.jsonl": (b'{"text": "a"}\n{"text": "b', "line 2 is not JSON"),
    "list.jsonl": (b'["a"]\n', "value 1 of the array is not a JSON object"),
    "latin.jsonl": (b'{"text": "na\xefve"}\n', "line 1 is not UTF-8 (byte 0xef)"),
    "empty.jsonl": (b"", "holds no rows"),
    "latin.txt": (b"one\nna\xefve\n", "line 2 is not UTF-8 (byte 0xef)"),
    "blank.txt": (b"\n\n", "holds no rows"),
    "corpus.xlsx": (b"PK", "unknown kind .xlsx; say what it is with --format"),
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
    with pytest.raises(
        UserError, match=r"nowhere\.parquet: no such file; give a \.parquet, \.jsonl, \.csv, \.tsv or \.txt file"
    ):
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


SCALARS = {
    "int": (pa.array([7, None]), ["7", None]),
    "large": (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
    "double": (pa.array([7.0, 0.1, 1e300]), ["7", "0.1", "1e+300"]),
    "half": (pa.array([1.5], pa.float16()), ["1.5"]),
    "bool": (pa.array([True, False]), ["true", "false"]),
    "decimal": (pa.array([Decimal("1.20")]), ["1.20"]),
    "date": (pa.array([date(2026, 11, 25)]), ["2026-11-25"]),
    "time": (pa.array([3600], pa.time32("s")), ["01:00:00.000"]),
    "timestamp": (pa.array([1_500_000], pa.timestamp("us")), ["1970-01-01 00:00:01.500000"]),
    "zoned": (pa.array([1], pa.timestamp("s", tz="Mars/Olympus")), ["1970-01-01 00:00:01.000Z"]),
    "bytes": (pa.array([b"\x01\xff"]), ["01ff"]),
    "fixed": (pa.array([b"\x01\xff"], pa.binary(2)), ["01ff"]),
    "uuid": (pa.array([bytes(range(16)), None], pa.uuid()), ["00010203-0405-0607-0809-0a0b0c0d0e0f", None]),
    "dictionary": (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    "null": (pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize("name", SCALARS)
def test_any_single_value_is_an_id_in_one_text_form(tmp_path, name):
    values, forms = SCALARS[name]
    path = write_parquet(tmp_path / "c.parquet", {"id": values, "text": ["a"] * len(values)})
    assert [row.id for row in open_corpus(path).rows()] == forms


def test_json_has_the_same_text_forms(tmp_path, write_jsonl):
    values = [7, 2**70, 7.0, 0.1, True, None, "7", [1, "a"]]
    path = write_jsonl(tmp_path / "c.jsonl", [{"id": value, "text": "a"} for value in values])
    forms = ["7", "1180591620717411303424", "7", "0.1", "true", None, "7", '[1, "a"]']
    assert [row.id for row in open_corpus(path).rows()] == forms


def test_rows_can_be_numbered_although_there_are_ids(tmp_path):
    path = write_parquet(tmp_path / "c.parquet", {"id": [["no id"]], "text": ["one"]})
    with pytest.raises(UserError, match="column id holds list.*give one of single values"):
        open_corpus(path)
    assert pairs(path, row_ids=True) == [("row-0", "one")]
    with pytest.raises(UserError, match="--row-ids and --id-column id: give one of both"):
        open_corpus(path, Reading(id_column="id", row_ids=True))


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "RLE_DICTIONARY"])
def test_every_encoding_of_strings_is_read(tmp_path, encoding):
    texts = [*TEXTS, None, "", "one more", "one more time"] * 300
    how = {} if encoding == "RLE_DICTIONARY" else {"use_dictionary": False, "column_encoding": encoding}
    path = write_parquet(tmp_path / "c.parquet", {"text": texts}, row_group_size=1000, **how)
    assert encoding in {e for g in range(3) for e in pq.read_metadata(path).row_group(g).column(0).encodings}
    assert [row.text for row in open_corpus(path).rows()] == texts
