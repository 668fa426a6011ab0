"""Where a run's folder lies makes no difference: the same promises on a disk and in an object store."""

import errno
import resource
import threading
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.checkpoint import Checkpoint, to_bytes
from orchestrator.console.errors import StorageError, Superseded, UserError
from orchestrator.corpus import open_corpus
from orchestrator.results.in_flight import FOLDER, InFlight, file_of
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_log import RunLog, last_event, read_events
from orchestrator.results.run_record import read_record
from orchestrator.results.status import read_status
from orchestrator.storage import lease, objects, open_storage
from tests.orchestrator import bucket
from tests.orchestrator.bucket import IDS, Bucket, commit_what_is_left, made_up_row
from tests.orchestrator.made_up import job, run_record


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path):
    """A run's folder that is not there yet."""
    return tmp_path / "run" if request.param == "disk" else bucket.uri(tmp_path / "run")


@pytest.fixture
def store(tmp_path):
    """URI of a run's folder in an object store."""
    return bucket.uri(tmp_path / "run")


def ids(place):
    return [row["id"] for row in Ledger(place).read()]


def test_files_are_read_replaced_listed_and_taken_away(place):
    storage = open_storage(place)
    assert (storage.names(), storage.names("in_flight"), storage.read("a")) == ([], [], None)
    storage.replace({"a": b"1", "in_flight/b": b"2", "in_flight/c": b""})
    storage.replace({"a": b"3"})
    assert (storage.read("a"), storage.read("in_flight/c")) == (b"3", b"")
    assert (sorted(storage.names()), sorted(storage.names("in_flight"))) == (["a", "in_flight"], ["b", "c"])
    storage.delete(["in_flight/gone", "in_flight/b", "in_flight/gone too"])
    storage.delete(["in_flight/b"])
    assert storage.names("in_flight") == ["c"]
    storage.clear("in_flight")
    storage.clear("in_flight")
    assert storage.names("in_flight") == [] and storage.at("a") == f"{place}/a"
    with pytest.raises(FileNotFoundError):
        storage.open("b")


def test_rows_are_committed_read_back_and_found(place):
    Ledger(place).commit([made_up_row("a"), made_up_row("b")])
    ledger = Ledger(place)
    assert sorted(id for id in IDS if id in ledger.committed_ids()) == ["a", "b"]
    ledger.commit([made_up_row("c")])
    ledger.commit([])
    assert ids(place) == ["a", "b", "c"]
    found, read = ledger.read_id("c"), next(row for row in ledger.read() if row["id"] == "c")
    assert found.keys() == read.keys() and all(np.array_equal(found[name], read[name]) for name in found)
    with pytest.raises(UserError, match="--id x: .*run has no such row"):
        ledger.read_id("x")


def test_a_part_that_no_line_names_is_as_if_never_written(place):
    storage = open_storage(place)
    Ledger(place).commit([made_up_row("a")])
    storage.write_part(1, lambda file: file.write(b"never committed"))
    assert ids(place) == ["a"]
    Ledger(place).commit([made_up_row("b")])
    assert ids(place) == ["a", "b"]


def test_a_disk_that_is_full_in_the_middle_of_a_part_is_told_with_the_place_and_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as refusal:
            open_storage(tmp_path).write_part(0, lambda file: file.write(bytes(2000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refusal.value.errno == errno.EFBIG and str(tmp_path) in refusal.value.filename
    assert list((tmp_path / "results").iterdir()) == []


def test_one_row_is_read_from_its_own_part_alone_and_a_missing_part_is_named(place):
    ledger = Ledger(place)
    ledger.commit([made_up_row("a")])
    ledger.commit([made_up_row("b")])
    first = f"results/{sorted(open_storage(place).names('results'))[0]}"
    open_storage(place).delete([first])
    assert ledger.read_id("b")["row"] == 1
    with pytest.raises(UserError, match=rf"results part {place}/{first}: damaged"):
        ledger.read_id("a")


def test_record_status_log_and_checkpoints_lie_there_too(place):
    assert read_record(place) is None
    run_record().write(place)
    with RunLog(place) as log:
        log.info("started", rows=3)
    with RunLog(place) as log:
        log.info("committed", count=2)
    assert read_record(place) == run_record()
    assert [event["event"] for event in read_events(place, "started", "committed")] == ["started", "committed"]
    last = last_event(place)
    assert last is not None and read_status(place).last_event == last and last["count"] == 2
    content = to_bytes(Checkpoint(job("a"), [{"step": 3}]))
    open_storage(place).replace({f"{FOLDER}/{file_of(7)}": content})
    flight = InFlight(place)
    assert flight.recall(0, job("a").target) is None and flight.recall(7, job("a").target) == (job("a"), content)


def test_a_place_that_holds_something_else_is_refused(place):
    open_storage(place).replace({"notes.txt": b"mine"})
    with pytest.raises(UserError, match="not empty and not a run's folder"):
        read_record(place)


def test_a_second_writer_is_refused_while_the_first_lives_and_let_in_afterwards(place, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 0.6)
    with open_storage(place).sole_writer(print):
        with pytest.raises(UserError, match=r"process \d+ on .* is writing there; wait for it"):
            with open_storage(place).sole_writer(print):
                raise AssertionError("two writers")
        open_storage(place).replace({"a": b""})
    started = time.monotonic()
    with open_storage(place).sole_writer(print):
        assert time.monotonic() - started < 0.5, "what was given back is not waited for"
    assert read_names_but_lock(place) == ["a"]


def read_names_but_lock(place):
    return [name for name in open_storage(place).names() if not name.startswith(".lock")]


def test_the_lease_of_a_dead_holder_runs_out(store):
    storage, said = objects.ObjectStore(store), []
    dead = lease.Lease.new(0.3)
    assert storage.create(".lock/00000000.json", dead.to_bytes())
    started = time.monotonic()
    with lease.hold(storage, store, said.append, lease_s=30):
        assert time.monotonic() - started > 0.2
        assert sorted(storage.names(".lock")) == ["00000000.json", "00000001.json"]
    assert len(said) == 1 and dead.holder in said[0]


def test_of_many_who_want_a_free_folder_one_gets_it(store):
    objects.ObjectStore(store).create(".lock/00000000.json", lease.Lease.new(0).to_bytes())
    go, outcomes = threading.Barrier(4), []

    def want():
        go.wait()
        try:
            with lease.hold(objects.ObjectStore(store), store, print, lease_s=0.6):
                time.sleep(1.5)  # longer than the others wait: a lease is renewed
            outcomes.append("held")
        except UserError:
            outcomes.append("refused")

    in_threads(want, 4)
    assert Counter(outcomes) == {"held": 1, "refused": 3}


def in_threads(target, number, *args):
    threads = [threading.Thread(target=target, args=args) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_committers_that_race_without_any_lock_double_nothing_and_lose_nothing(store):
    in_threads(commit_what_is_left, 4, store)
    assert sorted(ids(store)) == list(IDS)
    entries = list(Ledger(store).entries())
    assert len({entry["part"] for entry in entries}) == len(entries) == len(open_storage(store).names("manifest"))


def test_who_sleeps_while_another_commits_is_stopped_at_its_next_commit(store):
    sleeper, other = Ledger(store), Ledger(store)
    assert len(sleeper.committed_ids()) == len(other.committed_ids()) == 0
    other.commit([made_up_row("a")])
    for _ in range(2):
        with pytest.raises(Superseded, match="another run commits there; this one stops"):
            sleeper.commit([made_up_row("a")])
    other.commit([made_up_row("b")])
    assert ids(store) == ["a", "b"]


class Faulty(Bucket):
    """Does as it is told, and says that it did not."""

    protocol = "faulty"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value, mode=mode)
        raise TimeoutError("no answer")


@pytest.fixture
def faulty(store, monkeypatch):
    """A store whose answers get lost."""
    storage = objects.ObjectStore(store)
    monkeypatch.setattr(storage, "_store", Faulty())
    return storage


def test_a_commit_whose_answer_was_lost_is_settled_by_looking(faulty, store):
    faulty.commit(0, b"mine")
    assert list(faulty.committed()) == [b"mine"]
    objects.ObjectStore(store).commit(1, b"another's")
    with pytest.raises(Superseded):
        faulty.commit(1, b"mine")
    with pytest.raises(StorageError, match="the store does not do what it is asked .no answer."):
        faulty.replace({"run.json": b""})


def test_a_store_that_overwrites_where_it_should_create_is_refused(store, monkeypatch):
    whole = Bucket.pipe_file
    monkeypatch.setattr(Bucket, "pipe_file", lambda self, path, value, mode="": whole(self, path, value))
    with pytest.raises(UserError, match="this store overwrites where it was asked to create"):
        with open_storage(store).sole_writer(print):
            raise AssertionError("held")


def test_a_manifest_with_a_hole_is_refused_with_the_object_named(store):
    for id in "abc":
        Ledger(store).commit([made_up_row(id)])
    open_storage(store).delete(["manifest/00000001.json"])
    with pytest.raises(UserError, match=r"run/manifest/00000001\.json: gone; restore it"):
        ids(store)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://bucket/run", r"needs a package that is not there .*; pip install 'verbatim\[s3\]'"),
        ("gs://bucket/run", r"pip install 'verbatim\[gcs\]'"),
        ("memory://run", "a run cannot be kept there, nothing would keep two runs apart; give a folder, or a URI"),
        ("bucket:///a[1]/run", r"choose a name without \* \? \[ \]"),
    ],
)
def test_a_store_that_cannot_hold_a_run_is_refused_with_a_remedy(place, message):
    with pytest.raises(UserError, match=message):
        open_storage(place)


CORPORA = {
    "corpus.jsonl": '{"id": "a", "text": "one\\ntwo"}\n{"id": "b", "text": null}\n',
    "corpus.csv": "id,text\na,one\nb,\n",
    "corpus.txt": "one\n\n  two\r\n",
}


@pytest.mark.parametrize("name", [*CORPORA, "corpus.parquet"])
def test_a_corpus_reads_the_same_by_path_and_by_uri(name, tmp_path):
    path = tmp_path / name
    if name in CORPORA:
        path.write_text(CORPORA[name], encoding="utf-8")
    else:
        pq.write_table(pa.table({"id": ["a", "b"], "text": ["one", None]}), path)
    here, there = open_corpus(path), open_corpus(bucket.uri(path))
    assert list(here.rows()) == list(there.rows()) and len(list(there.rows())) == there.num_rows == 2
    assert (here.text_column, here.id_column) == (there.text_column, there.id_column)


def test_a_corpus_has_another_fingerprint_once_it_has_changed(tmp_path):
    path = tmp_path / "corpus.txt"
    places = [path, bucket.uri(path)]
    path.write_text("one\n")
    before = [open_corpus(place).fingerprint for place in places]
    assert [open_corpus(place).fingerprint for place in places] == before
    path.write_text("two\n")
    assert not set(before) & {open_corpus(place).fingerprint for place in places}


def test_a_corpus_that_is_not_there_or_cannot_be_asked_for_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"corpus bucket://.*/none\.txt: no such file"):
        open_corpus(bucket.uri(tmp_path / "none.txt"))
    with pytest.raises(UserError, match=r"s3://b/c\.parquet: needs a package.*pip install 'verbatim\[s3\]'"):
        open_corpus("s3://b/c.parquet")
    with pytest.raises(UserError, match="nonsense://b/c.txt: cannot be opened"):
        open_corpus("nonsense://b/c.txt")
