"""The table of docs/corpora.md: each thing that may stand for CORPUS is made, read, and gives what the table says."""

import gzip
import json
import re
from datetime import date
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.corpus import Reading, open_corpus
from orchestrator.corpus.formats import FORMATS, PACKED
from orchestrator.corpus.intake import Intake
from orchestrator.process import standard_input
from orchestrator.storage.location import parse_location

PAGE = (Path(__file__).parents[3] / "docs" / "corpora.md").read_text()
TEXTS = ["She made tea.", "It was late."]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)


def parquet(name, texts=TEXTS, **columns):
    """A maker of a Parquet file; it gives the folder, or the file, that stands for the corpus."""

    def make(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({**columns, "text": texts}), path)
        return path

    return make


def text(name, content, encoding="utf-8"):
    def make(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return folder / name

    return make


def parts(*makers):
    def make(folder):
        for maker in makers:
            maker(folder)
        return folder / "corpus"

    return make


def arrow(name, texts=TEXTS):
    def make(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({"text": texts})
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
        return path

    return make


def saved(folder):
    """A folder as `save_to_disk` leaves it."""
    arrow("corpus/data-00001-of-00002.arrow", TEXTS[1:])(folder)
    arrow("corpus/data-00000-of-00002.arrow", TEXTS[:1])(folder)
    names = [{"filename": f"data-0000{n}-of-00002.arrow"} for n in range(2)]
    (folder / "corpus" / "state.json").write_text(json.dumps({"_data_files": names}))
    return folder / "corpus"


def piped(content):
    def make(folder):
        (folder / "piped").write_bytes(content)
        return "-"

    return make


CORPORA = {
    "Parquet with `id`": parquet("c.parquet", id=[7, 8]),
    "Parquet, ids of UUIDs": parquet("c.pq", id=pa.array([UUID(int=n).bytes for n in (0, 1)], pa.uuid())),
    "Parquet, ids of doubles": parquet("c.parquet", id=[7.0, 0.5]),
    "Parquet, ids of dates": parquet("c.parquet", id=[date(2026, 11, 25), None]),
    "Parquet, a document's id on each sentence": parquet("c.parquet", id=["doc", "doc"]),
    "Parquet with `id`, `--row-ids`": parquet("c.parquet", id=[7, 8]),
    "a folder of Parquet parts": parts(
        parquet("corpus/part-00001.snappy.parquet", TEXTS[1:]), parquet("corpus/part-00000.snappy.parquet", TEXTS[:1])
    ),
    "a Hive tree, `--id-column lang`": parts(
        parquet("corpus/lang=en/p.parquet", TEXTS[:1]), parquet("corpus/lang=de/p.parquet", TEXTS[1:])
    ),
    "a folder of `save_to_disk`": saved,
    "an Arrow stream": arrow("c.arrow"),
    "JSON lines, one without the key `text`": text("c.jsonl", LINES + '{"id": 9}\n'),
    "one JSON array": text("c.json", json.dumps([{"id": n, "text": text} for n, text in enumerate(TEXTS)], indent=1)),
    "JSON lines in gzip": text("c.jsonl.gz", gzip.compress(LINES.encode())),
    "CSV": text("c.csv", 'id,text\n007,She made tea.\n008,"It was ""late""."\n'),
    "CSV in UTF-16, ending in upper case": text("C.CSV", "text\nShe made tea.\nIt was late.\n", "utf-16"),
    "CSV of a spreadsheet with decimal commas": text("c.csv", "id;text\n0,5;She made tea.\n1;It was late.\n"),
    "CSV of Spark, `--csv-quotes backslash`": text("c.csv", 'id,text\n1,"He said \\"hi\\" to us"\n'),
    "TSV": text("c.tsv", "id\ttext\n1\tShe made tea.\n2\tIt was late.\n"),
    "lines of text": text("c.txt", "She made tea.\r\n\r\nIt was late."),
    "no ending": text("corpus", "She made tea.\nIt was late.\n"),
    "lines on standard input": piped(b"She made tea.\nIt was late.\n"),
    "a table on standard input, `--format csv`": piped(b"id,text\n1,She made tea.\n2,It was late.\n"),
}
FLAGS = {"--row-ids": {"row_ids": True}, "--id-column lang": {"id_column": "lang"}, "--format csv": {"format": "csv"},
         "--csv-quotes backslash": {"csv_quotes": "backslash"}}  # fmt: skip


def cells(heading):
    """The rows of the table below a heading of the page, cell by cell."""
    table = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_the_table_tells_of_every_corpus_that_is_made_here():
    assert [row[0] for row in cells("What a corpus gives")] == list(CORPORA)


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_gives_the_ids_and_texts_that_the_table_says(tmp_path, monkeypatch, name):
    corpus = CORPORA[name](tmp_path)
    reading = next((flags for flag, flags in FLAGS.items() if f"`{flag}`" in name), {})
    if corpus == "-":
        with (tmp_path / "piped").open("r") as file:
            monkeypatch.setattr("sys.stdin", file)
            standard_input._copy.cache_clear()
            said = told(corpus, reading)
            standard_input._copy.cache_clear()
    else:
        said = told(corpus, reading)
    assert said == dict(row[:2] for row in cells("What a corpus gives"))[name]


def told(corpus, reading):
    opened = open_corpus(parse_location(str(corpus)), Reading(**reading))
    rows = Intake(opened, None, None).named()  # type: ignore[arg-type]  # naming asks neither tokenizer nor recipe
    return ", ".join(f"`{id}` {'null' if row.text is None else row.text}" for row, id in rows)


def test_the_table_of_formats_has_every_format_and_ending():
    told = {
        row[0].replace("`", ""): set(re.findall(r"`(\.\w+)`", row[1])) for row in cells("Formats") if "`." in row[1]
    }
    endings = {f"{name}, tsv" if name == "csv" else name: set(ends) for name, ends in FORMATS.items() if name != "tsv"}
    endings["csv, tsv"] |= set(FORMATS["tsv"])
    assert told == endings
    assert all(f"`{ending}`" in PAGE for ending in PACKED)
