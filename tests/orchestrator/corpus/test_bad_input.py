"""Corpora of any origin: one short line for a file, one reason for a row, and never more memory than either needs."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading, open_corpus, parquet_rows
from orchestrator.corpus.text import MAX_LINE

TEXTS = [f"text number {n} of some" for n in range(300)]
IDS = [f"id-{n}" for n in range(300)]
MAX_PEAK_MIB = 400


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


def dictionary(value, num_rows):
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(num_rows, np.int32)), pa.array([value]))


BOMBS = {
    "a_long_text_many_times": lambda path: write(path, dictionary("a" * 2_000_000, 100_000)),
    "prefixes": lambda path: write(
        path, ["a" * n for n in range(0, 20_000, 4)], use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY"
    ),
    "a_lot_of_nothing": lambda path: write(path, pa.nulls(300_000, pa.string())),
}


@pytest.fixture(scope="module")
def peak():
    """Peak memory in MiB of a process of its own that reads a corpus to its end, and what it said."""

    def read(path):
        program = (
            "import sys; from pathlib import Path; from orchestrator.corpus import open_corpus\n"
            "try: said = sum(1 for _ in open_corpus(Path(sys.argv[1])).rows())\n"
            "except ValueError as error: said = error\n"
            "peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
            "print(int(peak) // 1024, said)"
        )
        command = [sys.executable, "-c", program, str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        return int(told.split()[0]), told.partition(" ")[2].strip()

    return read


@pytest.mark.parametrize(("bomb", "said"), [
    ("a_long_text_many_times", "100000"),
    ("prefixes", "5000"),
    ("a_lot_of_nothing", "300000"),
])  # fmt: skip
def test_a_parquet_bomb_takes_little_memory(tmp_path, peak, bomb, said):
    path = BOMBS[bomb](tmp_path / "c.parquet")
    assert path.stat().st_size < 1 << 20
    mib, told = peak(path)
    assert said in told and mib < MAX_PEAK_MIB


def test_a_column_that_unpacks_to_far_more_than_it_is_is_refused_by_its_footer(tmp_path, monkeypatch):
    path = write(tmp_path / "c.parquet", ["a" * 3_000_000], compression="zstd", use_dictionary=False)
    assert len(list(open_corpus(path).rows())) == 1
    monkeypatch.setattr(parquet_rows, "FREE_BYTES", 1 << 20)
    assert "column text in row group 0 unpacks from" in refusal(path)


def test_shared_prefixes_are_counted_as_they_unpack(tmp_path, monkeypatch):
    path = BOMBS["prefixes"](tmp_path / "c.parquet")
    monkeypatch.setattr(parquet_rows, "FREE_BYTES", 1 << 20)
    rows = open_corpus(path).rows()
    assert len([next(rows) for _ in range(500)]) == 500
    with pytest.raises(UserError, match="row group 0 unpacks to more than 1048576 bytes; write smaller row groups"):
        list(rows)


def test_packed_lengths_count_four_bytes_each(tmp_path, monkeypatch):
    path = write(
        tmp_path / "c.parquet", [""] * 300_000, use_dictionary=False, column_encoding="DELTA_LENGTH_BYTE_ARRAY"
    )
    assert path.stat().st_size < 1 << 14 and open_corpus(path).num_rows == 300_000
    monkeypatch.setattr(parquet_rows, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(parquet_rows, "MAX_RATIO", 10)
    assert "column text in row group 0 unpacks from" in refusal(path)


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


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_line_too_long_to_hold_is_not_read_to_its_end(tmp_path, peak, kind):
    path = tmp_path / f"c.{kind}"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n' + b"a" * MAX_LINE)
        file.truncate(1 << 30)  # a gigabyte of NULs that takes no room on the disk
    mib, told = peak(path)
    assert "line 2 has more than 16777216 characters" in told and mib < MAX_PEAK_MIB


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
