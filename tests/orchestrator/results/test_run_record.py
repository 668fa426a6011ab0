"""`run.json` and `verbatim status`: whose folder it is, and how far it got."""

import pytest

from engine.recipe import load_recipe
from orchestrator.console.errors import UserError
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_record import read_record, require_record
from orchestrator.results.status import read_status
from orchestrator.run.rows import result_row
from orchestrator.storage.folder_lock import sole_writer
from tests.orchestrator.made_up import ROW_CONTEXT, run_record, verified_item


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = run_record(vector_plan=[(8, 4), (32, 8)])
    record.write(tmp_path / "run")
    assert read_record(tmp_path / "run") == record
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_folder_that_is_missing_or_empty_holds_no_record(tmp_path):
    assert read_record(tmp_path / "missing") is None
    assert read_record(tmp_path) is None


def test_a_foreign_folder_or_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and not a run's folder; choose another"):
        read_record(tmp_path)
    with pytest.raises(UserError, match=r"notes\.txt: is a file; choose a folder"):
        read_record(tmp_path / "notes.txt")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1}', "\xff"])
def test_an_unreadable_record_is_one_line_that_names_the_file(tmp_path, content):
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"^[^\n]*run\.json: not a record of a run[^\n]*$"):
        read_record(tmp_path)


def test_the_same_request_has_no_differences():
    record = run_record(recipe=load_recipe(None, ["num_vectors=4", "optim.lr=0.5"]))
    asked = load_recipe(None, ["optim.lr=0.5", "num_vectors=4"])
    assert record.differences(asked, **identity()) == []


def test_differences_name_key_and_both_values():
    record = run_record(recipe=load_recipe(None, ["optim.lr=0.25"]))
    asked = load_recipe(None, ["optim.lr=0.5"])
    assert record.differences(asked, **identity(model="gpt", text_column="body")) == [
        "optim.lr: 0.25 -> 0.5",
        "model: pocket -> gpt",
        "text_column: text -> body",
    ]


def test_a_recipe_that_computes_otherwise_by_now_is_another_under_the_same_values():
    beams, greedy = load_recipe(None, ["proof=beam"]), load_recipe(None, ["optim.lr=0.5"])
    assert run_record(recipe=beams).differences(beams, **identity()) == []
    earlier = run_record(recipe=beams).model_copy(update={"recipe_hash": "5eed"})
    (told,) = earlier.differences(beams, **identity())
    assert told == f"recipe_hash: 5eed -> {beams.hash}, since this version computes it otherwise"
    older = run_record(recipe=greedy).model_copy(update={"recipe_hash": "5eed"})
    assert older.differences(greedy, **identity()) == [], "a hash from before some key says nothing"


def identity(**changes):
    """What made_up.run_record was made with."""
    same = {"model": "pocket", "revision": None, "corpus": "/corpus.jsonl", "text_column": "text", "id_column": "id"}
    return same | changes


def test_a_folder_that_must_be_a_runs_is_refused_when_it_is_not(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=r"no run\.json there; give the --out folder of a run"):
            require_record(folder)


def test_status_reads_record_and_manifest(tmp_path):
    run_record().write(tmp_path)
    Ledger(tmp_path).commit([result_row(verified_item(id), ROW_CONTEXT) for id in ("a", "b")])
    with sole_writer(tmp_path):
        status = read_status(tmp_path)
    assert (status.state, status.num_committed, status.num_rows) == ("running", 2, 3)
    assert status.counts == {"verified": 2}


def test_a_run_that_says_running_and_that_nobody_writes_was_killed(tmp_path):
    run_record().write(tmp_path)
    assert read_status(tmp_path).state == "killed"
    run_record(state="interrupted").write(tmp_path)
    assert read_status(tmp_path).state == "interrupted"
