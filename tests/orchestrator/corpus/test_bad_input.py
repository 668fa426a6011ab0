"""Corpora of any origin: one short line for a file, one reason for a row."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading, open_corpus
from orchestrator.corpus.text import MAX_LINE

TEXTS = [f"text number {n} of some" for n in range(300)]
IDS = [f"id-{n}" for n in range(300)]


def write(path, column, **options):
    pq.write_table(pa.table({"text": column}), path, **options)
    return path


def refusal(path, *columns):
    """The one line that a file is refused with, at the latest after its last row."""
    with pytest.raises(UserError) as error:
        list(open_corpus(path, Reading(*columns)).rows())
    line = str(error.value)
    assert str(path) in line and "\n" not in line and len(line) < 1000
    return line


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "corpus.parquet"
    table = pa.table({"text": TEXTS, "id": IDS})
    pq.write_table(table, path, row_group_size=100, write_page_checksum=True)
    return path.read_bytes()


def outcome(path):
    """The rows, or None where they are refused in one line."""
    try:
        return [(row.id, row.text) for row in open_corpus(path, Reading("text", "id")).rows()]
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_parquet_file_gives_its_rows_or_one_line(good, tmp_path, data):
    content = bytearray(good)
    kind = data.draw(st.sampled_from(["flipped", "cut", "left out", "zeroed"]))
    start = data.draw(st.integers(0, len(content) - 1))
    if kind == "flipped":
        content[start] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[start:]
    else:
        end = min(len(content), start + data.draw(st.integers(1, 64)))
        content[start:end] = b"" if kind == "left out" else bytes(end - start)
    path = tmp_path / "corpus.parquet"
    path.write_bytes(content)
    assert outcome(path) in (None, list(zip(IDS, TEXTS, strict=True)))


FLIPPING = """
import sys
from pathlib import Path
from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading, open_corpus

path, start = Path(sys.argv[1]), int(sys.argv[2])
good = path.read_bytes()
for at in range(start, len(good)):
    content = bytearray(good)
    content[at] ^= 2
    path.write_bytes(content)
    try:
        list(open_corpus(path, Reading("text", "id")).rows())
    except UserError:
        pass
"""


def test_no_bit_of_a_footer_takes_the_process_down(good, tmp_path):
    """pyarrow aborts where sizes in it contradict each other, so a process of its own goes through them."""
    path = tmp_path / "corpus.parquet"
    path.write_bytes(good)
    start = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    subprocess.run([sys.executable, "-c", FLIPPING, str(path), str(start)], check=True)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "none"])
def test_a_corrupt_row_group_is_told_after_the_rows_before_it(tmp_path, compression):
    path = write(tmp_path / "c.parquet", TEXTS, row_group_size=100, write_page_checksum=True, compression=compression)
    last = pq.read_metadata(path).row_group(2).column(0)
    content = bytearray(path.read_bytes())
    content[last.dictionary_page_offset + last.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    rows = open_corpus(path).rows()
    assert [next(rows).text for _ in range(100)] == TEXTS[:100]
    with pytest.raises(UserError, match=r"c\.parquet: damaged after row \d+"):
        list(rows)


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1PAR1", b"PAR1\0\0\0\0PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"PARE" + bytes(99) + b"PARE",
     b"\x89PNG\r\n\x1a\n" + bytes(99), b"\x1f\x8b\x08" + bytes(99), b"SQLite format 3\0" + bytes(999), b"\xff" * 999],
    ids=lambda content: ascii(content[:9]),
)  # fmt: skip
def test_a_file_that_is_no_parquet_file(tmp_path, content):
    path = tmp_path / "c.parquet"
    path.write_bytes(content)
    assert "not a readable PARQUET file" in refusal(path)


OTHER_TYPES = {
    "struct": pa.array([{"a": "x"}]),
    "list": pa.array([["a"]]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"a\xff"]),
    "timestamp": pa.array([2**62], pa.timestamp("us", tz="Mars/Olympus")),
    "int64": pa.array([1]),
    "double": pa.array([float("nan")]),
    "decimal": pa.array([1], pa.decimal128(20, 2)),
    "struct<": pa.array([{f"key {n}": 1 for n in range(1000)}]),
}


@pytest.mark.parametrize("name", OTHER_TYPES)
def test_a_column_of_another_type_is_no_text(tmp_path, name):
    line = refusal(write(tmp_path / "c.parquet", OTHER_TYPES[name]))
    assert f"column text holds {name}" in line and "give one of strings" in line


STRINGS = {
    "dictionary": pa.array(["a", None, "a"]).dictionary_encode(),
    "large": pa.array(["a", None, "a"], pa.large_string()),
    "view": pa.array(["a", None, "a"], pa.string_view()),
}


@pytest.mark.parametrize("name", STRINGS)
def test_every_kind_of_string_is_text(tmp_path, name):
    assert [row.text for row in open_corpus(write(tmp_path / "c.parquet", STRINGS[name])).rows()] == ["a", None, "a"]


def test_ids_may_be_single_values_and_nothing_else(tmp_path):
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": ["a"], "id": [7], "other": [["x"]]}), path)
    assert [row.id for row in open_corpus(path).rows()] == ["7"]
    assert "column other holds list" in refusal(path, "text", "other")


class Pickled(pa.ExtensionType):
    """As Ray's type of pickled objects: reading a value runs what the file says."""

    def __init__(self):
        super().__init__(pa.large_binary(), "tests.pickled")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()

    def __arrow_ext_scalar_class__(self):
        return PickledScalar


class PickledScalar(pa.ExtensionScalar):
    def as_py(self, **_):
        raise AssertionError("unpickled")


@pytest.mark.parametrize("wrap", [lambda array: array, lambda array: pa.ListArray.from_arrays([0, 1], array)])
def test_no_extension_type_is_read(tmp_path, wrap):
    pa.register_extension_type(Pickled())
    try:
        array = pa.ExtensionArray.from_storage(Pickled(), pa.array([b"x"], pa.large_binary()))
        with pytest.raises(AssertionError, match="unpickled"):
            array.to_pylist()
        assert "column text holds" in refusal(write(tmp_path / "c.parquet", wrap(array)))
    finally:
        pa.unregister_extension_type("tests.pickled")
    assert "column text holds" in refusal(tmp_path / "c.parquet")  # where the type is unknown


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_arrow_file_gives_rows_or_one_line(tmp_path, data):
    path, table = tmp_path / "c.arrow", pa.table({"text": TEXTS[:20], "id": pa.array(IDS[:20]).dictionary_encode()})
    with pa.ipc.new_stream(path, table.schema) as file:
        file.write_table(table, max_chunksize=7)
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[start] ^= data.draw(st.integers(1, 255))
    else:
        del content[start:]
    path.write_bytes(content)
    outcome(path)


@pytest.mark.parametrize(("line", "reason"), [
    ("[" * 1_000_000, "maximum recursion depth"),
    ('{"a":' * 100_000, "maximum recursion depth"),
    ('{"text": ' + "1" * 100_000 + "}", "digits"),
    ("{text: 1}", "Expecting property name"),
    ("\0", "Expecting value"),
], ids=["arrays", "objects", "digits", "no quotes", "NUL"])  # fmt: skip
def test_a_line_that_is_not_json_is_named(tmp_path, line, reason):
    path = tmp_path / "c.jsonl"
    path.write_text(f'{{"text": "sound"}}\n\n{line}\n{{"text": "sound"}}\n')
    assert "line 3 is not JSON" in (told := refusal(path)) and reason in told


CSV = {
    "ragged": (b"id,text\na,b\nc\n", "row 1, from line 3 on: 1 cells where the first line has 2"),
    "too_many": (b"id,text\na,b,c\n", "row 0, from line 2 on: 3 cells where the first line has 2"),
    "a_giant_cell": (b"text\n" + b"a" * (2 * MAX_LINE + 9) + b"\nb\n", "line 2 has more than 16777216 characters"),
    "bytes": (b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)) * 9, "line 1 is not UTF-8 (byte 0x89)"),
    "not_utf8": (b"text\n\xff\xfe\n", "line 2 is not UTF-8 (byte 0xff)"),
    "many_columns": (b",".join(b"c%d" % n for n in range(5000)) + b"\n" + b"," * 4999 + b"\n", "and 4980 more"),
}


@pytest.mark.parametrize("name", CSV)
def test_a_csv_file_that_is_none(tmp_path, name):
    path = tmp_path / "c.csv"
    content, complaint = CSV[name]
    path.write_bytes(content)
    assert complaint in refusal(path)


def test_csv_cells_may_hold_anything_that_is_quoted(tmp_path):
    path = tmp_path / "c.csv"
    cells = ["=1+1", "@SUM(A1)", "nul\0", "over\ntwo lines", 'a "quote"', "a" * 3_000_000]
    path.write_text("text\n" + "".join('"' + cell.replace('"', '""') + '"\n' for cell in cells))
    assert [row.text for row in open_corpus(path).rows()] == cells


def test_a_file_of_bytes_is_no_text_file(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes(bytes(range(256)))
    assert "line 3 is not UTF-8 (byte 0x80)" in refusal(path)


def test_a_message_lists_few_of_many_columns(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({f"key {n}": 1 for n in range(10_000)}) + "\n")
    assert "key 19 and 9980 more" in refusal(path)
    assert "key 19 and 9980 more" in refusal(path, "text")
