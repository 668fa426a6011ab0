"""The command line on an object store, from a corpus there to results there."""

import json
from pathlib import Path

import pytest

from orchestrator.results.ledger import Ledger
from orchestrator.results.run_record import read_record
from orchestrator.storage import open_storage
from tests.orchestrator import bucket
from tests.orchestrator.conftest import SAYINGS

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SETTINGS = ("--set", "num_vectors=12", "--no-dashboard", "--engine", "hf")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, write_jsonl):
    """URI of the texts of the shared run."""
    folder = tmp_path_factory.mktemp("bucket")
    return bucket.uri(write_jsonl(folder / "corpus.jsonl", [{"id": id, "text": text} for id, text in SAYINGS.items()]))


@pytest.fixture(scope="module")
def interrupted(corpus, sayings):
    """URI of a run that lacks one text."""
    place = corpus.replace("corpus.jsonl", "run")
    rows = [row for row in Ledger(sayings).read() if row["id"] != "door"]
    Ledger(place).commit(rows)
    record = read_record(sayings)
    assert record is not None and len(rows) == len(SAYINGS) - 1
    record.model_copy(update={"corpus": corpus, "corpus_fingerprint": None, "state": "interrupted"}).write(place)
    return place


@pytest.fixture(scope="module")
def finished(interrupted, corpus, verbatim):
    """The same run, gone on with."""
    outcome = verbatim("run", corpus, "--out", interrupted, *SETTINGS)
    assert outcome.code == 3 and "3 of 4 exact on hf" in outcome.out, outcome
    return interrupted


def test_a_run_goes_on_in_the_store_and_leaves_every_row_once(finished):
    assert sorted(row["id"] for row in Ledger(finished).read()) == sorted(SAYINGS)
    names = [".lock", "history", "log.jsonl", "manifest", "results", "run.json"]
    assert sorted(open_storage(finished).names()) == names


def test_status_decode_and_export_read_from_there(finished, verbatim, tmp_path):
    status = json.loads(verbatim("status", finished, "--json").out)
    assert (status["state"], status["num_committed"]) == ("finished", 4)
    assert status["last_event"]["event"] == "finished" and status["folder"] == finished
    said = json.loads(verbatim("decode", finished, "--id", "door", "--json").out)
    assert said["strategies"][0]["says"] == SAYINGS["door"]
    exported = verbatim("export", finished, "--out", tmp_path / "prompts")
    assert exported.code == 0 and "3 prompts" in exported.out


def test_a_ladder_beside_results_in_a_store_is_refused_before_anything_is_done(corpus, verbatim):
    refused = verbatim("run", corpus, "--out", "bucket:///none/run", *SETTINGS, "--ladder")
    assert refused.code == 2 and "verbatim verify bucket:///none/run --ladder" in refused.err


def test_a_finished_run_has_nothing_to_do_and_refuses_a_corpus_that_has_changed(finished, corpus, verbatim):
    again = verbatim("run", corpus, "--out", finished, *SETTINGS)
    assert again.code == 3 and "is finished: 4 rows, nothing to do" in again.out
    path = Path(corpus.removeprefix("bucket://"))
    path.write_text(path.read_text().replace("old man", "young man"))
    changed = verbatim("run", corpus, "--out", finished, *SETTINGS)
    assert changed.code == 2 and "has changed, or is read another" in changed.err
    assert "choose another --out" in changed.err
