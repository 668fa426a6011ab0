"""Corpora that unpack to far more than they are: read within bounds, or refused, never in memory as a whole."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.console.errors import UserError
from orchestrator.corpus import open_corpus, parquet_rows
from orchestrator.corpus.text import MAX_LINE
from tests.orchestrator.corpus.test_bad_input import refusal, write

MAX_PEAK_MIB = 400


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


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_line_too_long_to_hold_is_not_read_to_its_end(tmp_path, peak, kind):
    path = tmp_path / f"c.{kind}"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n' + b"a" * MAX_LINE)
        file.truncate(1 << 30)  # a gigabyte of NULs that takes no room on the disk
    mib, told = peak(path)
    assert "line 2 has more than 16777216 characters" in told and mib < MAX_PEAK_MIB
