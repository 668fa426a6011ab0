"""Folders of parts, as Spark, Hive and Hugging Face leave them, and standard input."""

import io
import json
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading, open_corpus, short_name
from orchestrator.process import standard_input
from orchestrator.storage.location import STDIN, parse_location
from tests.orchestrator import bucket

ROWS = ["She made tea.", "It was late.", "The cat sat."]


def pairs(path, **reading):
    return [(row.id, row.text) for row in open_corpus(path, Reading(**reading)).rows()]


def write(path, texts, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts, **columns}), path)


@pytest.fixture
def hive(tmp_path):
    """A tree of parts as Spark leaves it, with what it puts beside them."""
    folder = tmp_path / "corpus.parquet"
    write(folder / "lang=en" / "part-00001.snappy.parquet", ROWS[1:2])
    write(folder / "lang=en" / "part-00000.snappy.parquet", ROWS[:1])
    write(folder / "lang=de%20AT" / "part-00002.snappy.parquet", ROWS[2:])
    write(folder / "lang=__HIVE_DEFAULT_PARTITION__" / "p.parquet", ["No language."])
    write(folder / "_temporary" / "0" / "part-00000.parquet", ["torn"])
    for name in ("_SUCCESS", "_metadata", ".part-00000.snappy.parquet.crc", "_delta_log/0.json", ".git/a.parquet"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_tree_of_parts_is_one_corpus_in_the_order_of_its_paths(hive, where):
    place = hive if where == "disk" else bucket.uri(hive)
    corpus = open_corpus(place)
    assert corpus.num_rows == 4
    assert [(row.row, row.id, row.text) for row in corpus.rows()] == [
        (row, f"row-{row}", text) for row, text in enumerate(["No language.", ROWS[2], ROWS[0], ROWS[1]])
    ]


def test_a_delta_table_is_read_unless_some_of_its_files_do_not_count(hive):
    log = hive / "_delta_log" / "1.json"
    log.write_text('{"add":{"path":"a.parquet","stats":"{\\"remove\\":1}"}}\n')
    assert len(pairs(hive)) == 4
    log.write_text('{"remove":{"path":"lang=en/part-00000.snappy.parquet","dataChange":true}}\n')
    with pytest.raises(UserError, match="Delta Lake some of whose files may not count any more; write what it holds"):
        pairs(hive)
    with pytest.raises(UserError, match="Delta Lake"):
        pairs(hive.parent)
    log.rename(log.with_name("00000000000000000010.checkpoint.parquet"))
    with pytest.raises(UserError, match="Delta Lake"):
        pairs(hive)


def test_pipes_in_a_folder_are_no_data_and_one_as_corpus_is_told_the_way_in(tmp_path):
    os.mkfifo(tmp_path / "b.jsonl")
    with pytest.raises(UserError, match=r"b.jsonl: is a pipe or a device; .*: \.\.\. \| verbatim run -$"):
        open_corpus(tmp_path / "b.jsonl")
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    assert pairs(tmp_path) == [("row-0", "a")]
    (tmp_path / "c.jsonl").symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(UserError, match=r"c.jsonl: not a readable JSON file .*No such file"):
        pairs(tmp_path)


def test_parts_without_endings_are_what_format_says(tmp_path):
    for number in (1, 0):
        (tmp_path / f"part-0000{number}").write_text(f'{{"text": "{number}"}}\n')
    (tmp_path / "_SUCCESS").write_text("")
    with pytest.raises(UserError, match="its files have no endings; say what they are with --format parquet"):
        pairs(tmp_path)
    assert pairs(tmp_path, format="json") == [("row-0", "0"), ("row-1", "1")]
    write(tmp_path / "c.parquet", ["c"])
    assert pairs(tmp_path) == [("row-0", "c")]


def test_a_name_that_no_file_can_have_is_told_as_such(tmp_path):
    with pytest.raises(UserError, match="a{256}: File name too long; give another path"):
        open_corpus(tmp_path / ("a" * 256))


def test_what_the_path_says_is_a_column(hive):
    assert pairs(hive, id_column="lang") == list(
        zip([None, "de AT", "en", "en"], ["No language.", *ROWS[2:], *ROWS[:2]], strict=True)
    )
    assert pairs(hive, text_column="lang", id_column="text")[1:3] == [(ROWS[2], "de AT"), (ROWS[0], "en")]
    assert [text for _, text in pairs(hive, text_column="lang")] == [None, "de AT", "en", "en"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_path_of_a_part_of_text_is_a_column_too(tmp_path, kind):
    for year, text in ((2025, "one"), (2026, "two")):
        part = tmp_path / "c" / f"year={year}" / f"a.{kind}"
        part.parent.mkdir(parents=True)
        part.write_text(f"text,year\n{text},0\n" if kind == "csv" else json.dumps({"text": text, "year": 0}))
    assert pairs(tmp_path / "c", id_column="year") == [("2025", "one"), ("2026", "two")]


@pytest.mark.parametrize("where", ["disk", "store"])
def test_the_fingerprint_is_of_all_parts(hive, where):
    place = hive if where == "disk" else bucket.uri(hive)
    part = hive / "lang=en" / "part-00001.snappy.parquet"
    before = open_corpus(place).fingerprint
    assert open_corpus(place).fingerprint == before
    content = part.read_bytes()
    write(part, ["It was Late."])
    changed = open_corpus(place).fingerprint
    part.rename(part.with_name("z.parquet"))
    moved = open_corpus(place).fingerprint
    part.with_name("z.parquet").unlink()
    gone = open_corpus(place).fingerprint
    assert len({before, changed, moved, gone}) == 4
    part.write_bytes(content)
    assert where == "store" or open_corpus(place).fingerprint == before


def test_a_damaged_or_unlike_part_is_named(hive):
    part = hive / "lang=en" / "part-00001.snappy.parquet"
    good = part.read_bytes()
    part.write_bytes(good[:-9])
    with pytest.raises(UserError, match=r"lang=en/part-00001.snappy.parquet: not a readable PARQUET file"):
        open_corpus(hive)
    pq.write_table(pa.table({"body": ["a"]}), part)
    with pytest.raises(UserError, match=r"part-00001.snappy.parquet: 0 columns are named text; there must be one"):
        open_corpus(hive)
    part.write_bytes(good)
    rows = open_corpus(hive).rows()
    next(rows)
    part.write_bytes(good[:-9])
    with pytest.raises(UserError, match=r"part-00001.snappy.parquet: damaged after row 3"):
        list(rows)


def test_a_folder_of_two_formats_is_read_as_one_of_them_when_asked(tmp_path):
    folder = tmp_path / "clone"
    write(folder / "data" / "train-00000-of-00001.parquet", ROWS[:1])
    (folder / "README.md").write_text("# about")
    (folder / "LICENSE").write_text("mine")
    (folder / "dataset_infos.json").write_text("{}")
    assert pairs(folder) == [("row-0", ROWS[0])]
    (folder / "data" / "extra.csv").write_text("text\none\n")
    with pytest.raises(UserError, match="holds csv and parquet files; say which are meant with --format"):
        open_corpus(folder)
    assert pairs(folder, format="csv") == [("row-0", "one")] and pairs(folder, format="parquet") == [("row-0", ROWS[0])]


@pytest.mark.parametrize("format", [None, "csv"])
def test_a_folder_without_a_corpus_is_refused(tmp_path, format):
    (tmp_path / "_SUCCESS").write_bytes(b"")
    with pytest.raises(UserError, match=f"the folder holds no {format or 'corpus'} files"):
        open_corpus(tmp_path, Reading(format=format))
    with pytest.raises(UserError, match="nowhere: no such file; give a .parquet, .* or a folder of them"):
        open_corpus(tmp_path / "nowhere")


def saved(folder, parts):
    """A data set as `save_to_disk` leaves it, with a cache file of `map` beside it."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{len(parts):05d}.arrow" for number in range(len(parts))]
    for name, texts in zip([*names, "cache-1f.arrow"], [*parts, ["stale"]], strict=True):
        table = pa.table({"id": range(len(texts)), "text": texts, "other": [[1]] * len(texts)})
        with pa.ipc.new_stream(folder / name, table.schema) as file:
            file.write_table(table, max_chunksize=2)
    (folder / "dataset_info.json").write_text('{"features": {}}')
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def test_a_data_set_that_was_saved_is_its_named_parts(tmp_path):
    folder = saved(tmp_path / "set", [ROWS, ROWS[:1]])
    assert pairs(folder, row_ids=True) == [(f"row-{row}", text) for row, text in enumerate([*ROWS, ROWS[0]])]
    assert pairs(folder, id_column="id") == list(zip("0120", [*ROWS, ROWS[0]], strict=True))
    with pytest.raises(UserError, match="column other holds list"):
        open_corpus(folder, Reading(text_column="other"))


def test_of_several_splits_one_must_be_named(tmp_path):
    folder = tmp_path / "sets"
    for split, texts in (("train", ROWS), ("test", ROWS[:1])):
        saved(folder / split, [texts])
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(UserError, match="holds 2 data sets; give one of train, test in that folder"):
        open_corpus(folder)
    assert pairs(folder / "test", row_ids=True) == [("row-0", ROWS[0])]
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert len(pairs(folder)) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"_data_files": [{}]}', '{"_data_files": 3}', "\xff"])
def test_a_list_of_parts_that_is_damaged_is_named(tmp_path, content):
    (saved(tmp_path / "set", [ROWS]) / "state.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"state\.json: not as `save_to_disk` writes it"):
        open_corpus(tmp_path / "set")


def test_parts_named_outside_the_folder_are_looked_for_inside(tmp_path):
    folder = saved(tmp_path / "set", [ROWS])
    write(tmp_path / "secret.arrow", ["secret"])
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../secret.arrow"}]}')
    with pytest.raises(UserError, match=r"set/secret\.arrow: not a readable ARROW file"):
        open_corpus(folder)


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_an_arrow_file_is_read_unless_it_is_compressed(tmp_path, new):
    path, table = tmp_path / "c.arrow", pa.table({"text": pa.array(ROWS).dictionary_encode(), "id": ROWS})
    for compression in (None, "zstd"):
        with new(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as file:
            file.write_table(table)
        if compression is None:
            assert pairs(path) == list(zip(ROWS, ROWS, strict=True))
    with pytest.raises(UserError, match=r"c\.arrow: is compressed, and nothing bounds what it unpacks to; write it"):
        open_corpus(path)


@pytest.fixture
def piped(monkeypatch):
    """Give bytes to standard input."""

    def pipe(content):
        standard_input._copy.cache_clear()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    yield pipe
    standard_input._copy.cache_clear()


def parquet_bytes():
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ROWS}), file)
    return file.getvalue()


@pytest.mark.parametrize("content", [
    "\n".join(ROWS).encode(),
    "".join(json.dumps({"text": text}) + "\n" for text in ROWS).encode(),
    json.dumps([{"text": text} for text in ROWS]).encode(),
    pa.compress("\n".join(ROWS).encode(), codec="gzip", asbytes=True),
    parquet_bytes(),
], ids=["lines", "objects", "array", "packed lines", "parquet"])  # fmt: skip
def test_standard_input_is_told_by_what_it_begins_with_and_may_be_read_again(piped, content):
    piped(content)
    for _ in range(2):
        assert pairs(parse_location("-")) == [(f"row-{row}", text) for row, text in enumerate(ROWS)]


def test_a_table_on_standard_input_must_be_named(piped):
    for content in (b"id,text\n1,one\n", b"text\none\n", b"n\tSentence\n1\tone\n"):
        piped(content)
        with pytest.raises(
            UserError, match="corpus -: standard input looks like a table; say what it is with --format"
        ):
            open_corpus(STDIN)
    piped(b"id,text\n1,one\n")
    assert pairs(STDIN, format="csv") == [("1", "one")]
    assert [text for _, text in pairs(STDIN, format="txt")] == ["id,text", "1,one"]


def test_the_same_on_standard_input_is_the_same_corpus(piped):
    prints = []
    for content in (b"one", b"two", b"one"):
        piped(content)
        prints.append(open_corpus(STDIN).fingerprint)
    assert prints[0] == prints[2] != prints[1]


def test_nothing_on_standard_input_says_how_to_go_on(piped):
    piped(b"")
    with pytest.raises(UserError, match="nothing came on standard input; .*goes on when the same is piped in again"):
        open_corpus(STDIN)


@pytest.mark.parametrize(("name", "short"), [
    ("a/demo.parquet", "demo"), ("x.jsonl.gz", "x"), ("UP.CSV", "UP"), ("hive", "hive"), ("-", "stdin"),
    ("s3://bucket/parts.parquet/", "parts"), ("README", "README"),
])  # fmt: skip
def test_results_are_named_after_the_corpus_without_its_endings(name, short):
    assert short_name(parse_location(name)) == short
