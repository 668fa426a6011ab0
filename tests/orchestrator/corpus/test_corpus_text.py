"""Files of text as people have them: packed, in other encodings, delimited by tabs, JSON in one array, odd quotes."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pyarrow as pa
import pytest

from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading, open_corpus, text

TEXTS = ["She made tea.", "It was late.", "Grüße, 雨"]


def texts(path, **reading):
    return [row.text for row in open_corpus(path, Reading(**reading)).rows()]


def refusal(path, **reading):
    with pytest.raises(UserError) as error:
        open_corpus(path, Reading(**reading))
    line = str(error.value)
    assert line.startswith(f"corpus {path}: ") and "\n" not in line
    return line


def written(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


BODIES = {
    "jsonl": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS),
    "ndjson": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS),
    "json": json.dumps([{"text": text} for text in TEXTS], indent=2, ensure_ascii=False),
    "csv": "text\n" + "".join(f'"{text}"\n' for text in TEXTS),
    "tsv": "text\tn\n" + "".join(f"{text}\t1\n" for text in TEXTS),
    "txt": "\n".join(TEXTS),
}


def packers():
    return {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
    }


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("kind", BODIES)
def test_every_text_format_is_read_packed_and_in_upper_case(tmp_path, kind, ending):
    content = BODIES[kind].encode()
    packed = packers()[ending[1:]](content) if ending else content
    for name in (f"c.{kind}{ending}", f"C.V1.{kind}{ending}".upper()):
        (tmp_path / name).write_bytes(packed)
        assert texts(tmp_path / name) == TEXTS


def test_packed_files_one_after_another_are_one_file(tmp_path):
    for ending, pack in packers().items():
        path = tmp_path / f"c.txt.{ending}"
        path.write_bytes(b"".join(pack(f"{text}\n".encode()) for text in TEXTS))
        assert texts(path) == TEXTS, ending


def test_a_packed_name_on_a_file_that_is_unpacked_already_makes_no_difference(tmp_path):
    assert texts(written(tmp_path / "c.jsonl.gz", BODIES["jsonl"])) == TEXTS
    (tmp_path / "c.jsonl").write_bytes(gzip.compress(BODIES["jsonl"].encode()))
    assert texts(tmp_path / "c.jsonl") == TEXTS


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_a_packed_file_that_was_cut_off_is_refused_in_one_line(tmp_path, ending):
    path = tmp_path / f"c.txt.{ending}"
    many = "".join(f"text {number} of many\n" for number in range(20_000)).encode()
    path.write_bytes(packers()[ending](many)[:-50])
    assert "not a readable TXT file" in refusal(path)


def test_a_parquet_file_is_not_packed_once_more(tmp_path):
    assert "unknown kind .gz" in refusal(written(tmp_path / "c.parquet.gz", "a"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "txt"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, kind, encoding):
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    assert texts(written(tmp_path / f"c.{kind}", mark + BODIES[kind], encoding)) == TEXTS


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "txt"])
def test_a_line_in_another_encoding_is_named_with_the_way_out(tmp_path, kind):
    body = "text\nShe made tea.\nna\xefve\n" if kind != "jsonl" else '{"text": "a"}\n\n{"text": "na\xefve"}\n'
    line = refusal(written(tmp_path / f"c.{kind}", body, "cp1252"))
    assert "line 3 is not UTF-8 (byte 0xef); write it as UTF-8, as with: iconv -f WINDOWS-1252" in line


def test_a_byte_in_an_array_is_named_by_its_line(tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(b'[\n{"text": "a"},\n{"text": "na\xefve"}\n]')
    assert "line 3 is not UTF-8 (byte 0xef)" in refusal(path)


def test_lines_end_as_they_like_and_quoted_ones_are_kept(tmp_path):
    assert texts(written(tmp_path / "c.txt", "a\r\nb\rc\n")) == ["a", "b", "c"]
    assert texts(written(tmp_path / "c.csv", 'text\r\n"a\r\nb"\r\nc\r\n')) == ["a\r\nb", "c"]


ARRAYS = {
    '{"text": "a"} {"text": "b"}': "line 1 is not JSON",
    '{\n "text": "a"\n}': "one object a line, or one array of objects",
    '[{"text": "a"},': "value 2 of the array is not JSON",
    '[{"text": "a"}': "the array lacks a ], or was cut off",
    '[{"text": "a"} {"text": "b"}]': "the array lacks a ]",
    '[{"text": "a"}] []': "something follows the array's end",
    '[{"text": "a"}, ["b"]]': "value 2 of the array is not a JSON object",
    '[{"text": "a}]': "value 1 of the array is not JSON",
    "[" * 100_000: "value 1 of the array is not JSON",
    "[]": "holds no rows",
    "": "nothing",
}


@pytest.mark.parametrize("content", ARRAYS, ids=lambda content: content[:30])
def test_what_is_neither_lines_nor_one_array_is_refused(tmp_path, content):
    complaint = ARRAYS[content].replace("nothing", "holds no rows")
    assert complaint in refusal(written(tmp_path / "c.json", content))


def test_an_array_in_one_line_is_read_a_value_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "CHUNK", 7)
    long = [{"text": f"number {number} {'é' * number}", "n": [number, {}]} for number in range(200)]
    path = written(tmp_path / "c.json", " \n " + json.dumps(long))
    assert texts(path) == [row["text"] for row in long]


QUOTED = ['He said "hi" to us', 'a ","b', "plain", "C:\\dir", 'end "', '"', 'two\n"lines"', "tab\there, comma"]


@pytest.mark.parametrize("text", QUOTED)
def test_backslash_quoting_is_never_read_as_another_text(tmp_path, text):
    """As Spark writes cells: quoted, a backslash before each quote and nowhere else."""
    cell = '"' + text.replace('"', '\\"') + '"'
    path = written(tmp_path / "c.csv", f"id,text\n1,{cell}\n2,It was late.\n")
    assert texts(path, csv_quotes="backslash") == [text, "It was late."]
    if '"' in text:
        line = refusal(path)
        assert "give --csv-quotes backslash" in line and "row 0, from line 2 on" in line
    else:
        assert texts(path) == [text, "It was late."]


def test_a_backslash_that_some_programs_double_is_refused_and_a_lone_one_is_kept(tmp_path):
    path = written(tmp_path / "c.csv", "text\n" + r'"a \" b \n c"' + "\n" + r'"\\server"' + "\n")
    assert "line 3 has backslashes in a row" in refusal(path, csv_quotes="backslash")
    path = written(tmp_path / "c.csv", "text\n" + r'"a \" b \n c \\\" d"' + "\n")
    assert texts(path, csv_quotes="backslash") == [r'a " b \n c \" d']


def test_what_python_writes_with_backslashes_is_read_back(tmp_path):
    cells = ['say "hi"', "a, b", 'end\\"', "plain"]
    file = io.StringIO()
    csv.writer(file, escapechar="\\", doublequote=False, quoting=csv.QUOTE_ALL).writerows([["text"], *zip(cells)])
    assert texts(written(tmp_path / "c.csv", file.getvalue()), csv_quotes="backslash") == cells


def test_cells_that_are_never_quoted_keep_their_quotes(tmp_path):
    path = written(tmp_path / "c.tsv", 'id\ttext\n1\t"Hi," he said\n2\tsay "no"\n')
    assert "row 0, from line 2 on: characters after a closing quote" in refusal(path)
    assert texts(path, csv_quotes="none") == ['"Hi," he said', 'say "no"']


@pytest.mark.parametrize(("body", "complaint"), [
    ('text\n"a" b\n', "characters after a closing quote"),
    ('text\nc\n"a\nb\n', "row 1, from line 3 on: a quote is opened and never closed"),
    ('text\n\n\n"a"b\n', "row 0, from line 4 on"),
    ("text;note\na;b;c\n", "3 cells where the first line has 2"),
    ("id,text\n1,a,b\n", "3 cells where the first line has 2"),
])  # fmt: skip
def test_a_row_that_could_be_meant_otherwise_is_refused(tmp_path, body, complaint):
    assert complaint in refusal(written(tmp_path / "c.csv", body))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_cells_may_be_separated_by_semicolons_where_the_names_are(tmp_path, encoding):
    path = tmp_path / "c.csv"
    path.write_bytes('id;text\r\n1;"a; ""b"", c"\r\n2;d, e\r\n'.encode(encoding))
    assert texts(path) == ['a; "b", c', "d, e"]
    path.write_bytes('id,"text;old"\r\n1,"a, b"\r\n'.encode(encoding))
    assert texts(path, text_column="text;old") == ["a, b"]


def test_a_row_over_many_lines_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.corpus.csv_rows.MAX_LINE", 100)
    path = written(tmp_path / "c.csv", "text\nshort\n" + '"' + "a\n" * 60 + '"\n')
    assert "row 1, from line 3 on: more than 100 characters" in refusal(path)


def test_a_format_can_be_said_where_the_name_does_not(tmp_path):
    path = written(tmp_path / "c.dat", BODIES["tsv"])
    assert "unknown kind .dat; say what it is with --format parquet, arrow, json, csv, tsv, txt" in refusal(path)
    assert texts(path, format="tsv") == TEXTS
    for name in ("jsonl", "json"):
        assert texts(written(tmp_path / "lines", BODIES["jsonl"]), format=name) == TEXTS
    with pytest.raises(UserError, match="--format xls: must be one of parquet, arrow, json, csv, tsv, txt"):
        open_corpus(path, Reading(format="xls"))
    with pytest.raises(UserError, match="--csv-quotes single: must be one of doubled, backslash, none"):
        open_corpus(path, Reading(format="csv", csv_quotes="single"))


def test_what_is_read_another_way_has_another_fingerprint(tmp_path):
    path = written(tmp_path / "c.csv", "text\none\n")
    readings = [Reading(), Reading(csv_quotes="none"), Reading(format="txt")]
    assert len({open_corpus(path, reading).fingerprint for reading in readings}) == 3


def test_a_pointer_of_git_lfs_is_no_text(tmp_path):
    path = written(tmp_path / "c.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "is a pointer of git-lfs, not the file; get it with: git lfs pull" in refusal(path)
