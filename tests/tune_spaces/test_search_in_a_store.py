"""A search that is kept in an object store: worked on here, there as it changes, gone on with from there."""

import json

import pytest
from typer.testing import CliRunner

from orchestrator.console.errors import UserError
from orchestrator.storage import open_storage
from orchestrator.storage.location import files_below
from tests.orchestrator import bucket
from tune_spaces.cli import app
from tune_spaces.folder import FILE, looked_at, working_copy

runner = CliRunner()


@pytest.fixture
def uri(tmp_path):
    return bucket.uri(tmp_path / "store" / "search")


def quiet(line):
    pass


def test_what_changes_is_in_the_store_and_comes_back(uri):
    with pytest.raises(KeyboardInterrupt), working_copy(uri, quiet) as copy:
        (copy.folder / "study.journal").write_text("one\n")
        (copy.folder / ".lock").write_text("")
        (copy.folder / "report").mkdir()
        (copy.folder / "report" / "index.html").write_text("<p>")
        copy.keep()
        assert files_below(uri) and open_storage(uri).read("study.journal") == b"one\n"
        (copy.folder / "study.journal").write_text("one\ntwo\n")
        raise KeyboardInterrupt
    assert open_storage(uri).read("study.journal") == b"one\ntwo\n", "an interrupt loses nothing"
    assert not copy.folder.exists()
    with working_copy(uri, quiet) as again:
        assert (again.folder / "study.journal").read_text() == "one\ntwo\n"
        assert (again.folder / "report" / "index.html").read_text() == "<p>" and again.folder.name == "search"
        assert not (again.folder / ".lock").exists(), "a lock stays where it was"


def test_only_what_has_changed_is_sent_and_not_too_often(uri, monkeypatch):
    with working_copy(uri, quiet) as copy:
        sent = []
        replace = copy._store.replace
        monkeypatch.setattr(copy._store, "replace", lambda files: (sent.extend(files), replace(files)))
        (copy.folder / "a").write_text("1")
        (copy.folder / "b").write_text("1")
        copy.keep(soon=True)
        (copy.folder / "b").write_text("22")
        copy.keep(soon=True)
        assert sent == ["a", "b"]
        copy.keep()
        assert sent == ["a", "b", "b"]


def test_two_searches_are_kept_apart_and_a_run_is_no_search(uri, tmp_path):
    with working_copy(uri, quiet), pytest.raises(UserError, match="is writing there"), working_copy(uri, quiet):
        pass
    with looked_at(uri) as found:
        assert found is None
    open_storage(uri).replace({FILE: b"{}"})
    with looked_at(uri) as found:
        assert found is not None and (found / FILE).read_text() == "{}"
    with pytest.raises(UserError, match="cannot be kept there"), working_copy("memory://search", quiet):
        pass


@pytest.mark.ray
@pytest.mark.slow
def test_a_whole_search_in_a_store(uri, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"The {who} sat here.\n" for who in ("cat", "dog", "man", "cow")))
    command = [
        "tune", str(corpus), "--out", uri, "--trials", "2", "--texts", "2", "--hold-out", "0", "--budget", "40",
        "--sampler", "random", "--stopping", "none", "--engine", "hf", "--no-dashboard", "--set", "num_vectors=4",
        "--set", "attempts=1", "--set", "max_steps=60",
    ]  # fmt: skip
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert f"recipe: {uri}/best.toml" in done.output.replace("\n", "")
    assert {FILE, "best.toml", "outcomes.jsonl", "progress.json", "report/index.html"} <= set(files_below(uri))
    told = json.loads(runner.invoke(app, ["status", uri, "--json"]).output)
    assert (told["folder"], told["state"], told["num_ended"]) == (uri, "finished", 2)
    again = runner.invoke(app, command)
    assert again.exit_code == 0 and "2 trials, nothing to do" in again.output.replace("\n", " ")
    page = tmp_path / "page"
    assert runner.invoke(app, ["report", uri, "--out", str(page)]).exit_code == 0
    assert (page / "index.html").is_file()
    assert "give --out a folder for the page" in runner.invoke(app, ["report", uri]).output.replace("\n", " ")
