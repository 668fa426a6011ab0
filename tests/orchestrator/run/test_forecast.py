"""`verbatim run --dry-run`: what a run would do, told without starting it."""

import json
import shutil

import pytest
import ray

from engine.recipe import Recipe
from orchestrator.results.ledger import Ledger
from orchestrator.run.rows import result_row
from tests.orchestrator.made_up import ROW_CONTEXT, T, run_record, verified_item

CAT = "The cat sat on the mat."
TEXTS = [CAT, "", None, CAT * 3, CAT, "", "", "", "", "", 5]
INVALID = {
    "empty": {"count": 6, "ids": ["row-1", "row-5", "row-6", "row-7", "row-8"]},
    "null_text": {"count": 1, "ids": ["row-2"]},
    "not_a_string": {"count": 1, "ids": ["row-10"]},
}


@pytest.fixture
def place(tmp_path, monkeypatch, write_jsonl):
    """A folder with a corpus, in which Ray cannot be started."""
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("started Ray"))
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "corpus.jsonl", [{"text": text} for text in TEXTS])
    return tmp_path


@pytest.fixture
def foretold(place, verbatim, contents):
    """The JSON that a dry run prints; it writes nothing."""

    def dry_run(*args):
        before = contents(place)
        outcome = verbatim("run", "corpus.jsonl", "--dry-run", "--json", *args)
        assert outcome.code == 0, outcome
        assert contents(place) == before
        return json.loads(outcome.out)

    return dry_run


def earlier_run(folder, **changes):
    """A made-up finished run of one text, which took 700 positions in 5 seconds, over T tokens and K vectors."""
    run_record(state="finished", counts={"verified": 1}, **{"num_rows": 1} | changes).write(folder)
    Ledger(folder).commit([result_row(verified_item("row-0"), ROW_CONTEXT) | {"positions": 700}])


def test_targets_are_counted_and_invalid_rows_named_by_reason(foretold, tokens):
    told = foretold("--set", "num_vectors=3")
    short, long = (len(tokens.speller.plain(text)) + 1 for text in (CAT, CAT * 3))
    assert (told["num_rows"], told["num_done"], told["num_targets"]) == (11, 0, 3)
    assert told["invalid"] == INVALID
    assert told["tokens"] == {"shortest": short, "median": short, "longest": long}
    assert told["work"]["num_vectors"] == 9 and told["work"]["are_vectors_known"]
    assert told["work"]["positions"] == 2 * short + long + 9
    assert told["recipe"]["num_vectors"] == 3 and told["model"] == "pocket"


def test_the_room_is_what_a_run_here_would_be_given(foretold):
    given = foretold("--table-positions", 300, "--solvers", 2)["given"]
    assert (given["table"], given["num_solvers"], given["dtype"], given["engine_dtype"]) == (300, 2) + ("float32",) * 2
    assert 0 < given["weights"] < given["free"] <= given["total"] and 128 <= given["served"] <= 1024
    assert foretold("--address", "10.1.1.1:6379")["given"] is None, "a cluster's memory is its nodes' to tell"


def test_most_passes_follow_from_the_recipe(foretold):
    work = foretold("--set", "max_steps=7", "--set", "attempts=3", "--set", "siblings=2")["work"]
    assert work["most_passes"] == 7 * 3 * 2
    assert not work["are_vectors_known"] and work["seconds"] is None and work["experience"] is None


def test_the_time_is_an_earlier_runs_rate_under_the_same_recipe(foretold, place):
    earlier_run(place / "runs" / "other", recipe=Recipe(num_vectors=2))
    work = foretold("--set", "num_vectors=2")["work"]
    passes, rate = 700 / (T + 2), 700 / 5
    assert work["expected"] == round(passes * work["positions"])
    assert work["seconds"] == pytest.approx(work["expected"] / rate)
    assert work["experience"]["folder"].endswith("other") and work["experience"]["num_texts"] == 1


def test_the_vectors_that_an_earlier_run_measured_are_counted(foretold, place):
    earlier_run(place / "runs" / "other", vector_plan=[(8, 1), (32, 1)])
    work = foretold()["work"]
    assert work["are_vectors_known"] and 3 <= work["num_vectors"] <= 6


@pytest.mark.parametrize("other", ["recipe", "model"])
def test_no_time_is_told_by_a_run_of_another_recipe_or_model(foretold, place, other):
    if other == "recipe":
        earlier_run(place / "runs" / "other", recipe=Recipe(seed=3))
    else:
        record = run_record()
        earlier_run(place / "runs" / "other", model=record.model.model_copy(update={"name": "another"}))
    work = foretold()["work"]
    assert work["expected"] is None and work["seconds"] is None
    assert (work["experience"] is not None) == (other == "recipe")


def test_a_damaged_run_beside_it_is_passed_over(foretold, place):
    earlier_run(place / "runs" / "other")
    shutil.copytree(place / "runs" / "other", place / "runs" / "damaged")
    next((place / "runs" / "damaged" / "results").iterdir()).write_bytes(b"PAR1")
    assert foretold()["work"]["experience"]["folder"].endswith("other")


def test_rows_that_have_their_result_are_counted_apart(foretold, place):
    names = dict(corpus=str(place / "corpus.jsonl"), id_column=None, num_rows=11)
    earlier_run(place / "run", **names)
    told = foretold("--out", place / "run", "--engine", "hf")
    assert (told["num_rows"], told["num_done"], told["num_targets"]) == (11, 1, 2)


def test_what_a_person_reads(place, verbatim):
    outcome = verbatim("run", "corpus.jsonl", "--dry-run", "--set", "num_vectors=3")
    lines = outcome.out.splitlines()
    assert outcome.code == 0 and lines[0] == "corpus.jsonl: 11 rows, 3 target(s), 8 invalid"
    assert lines[1] == "invalid, empty: 6 (row-1, row-5, row-6, row-7, row-8, ...)"
    assert "num_vectors: auto -> 3" in outcome.out and "no earlier run of this model" in outcome.out
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere.jsonl", "--dry-run"), "nowhere.jsonl: no such file"),
        (("corpus.jsonl", "--dry-run", "--set", "num_vectors=2000"), "num_vectors = 2000: leaves no room"),
        (("corpus.jsonl", "--dry-run", "--engine", "x"), "--engine x: must be one of"),
        (("corpus.jsonl", "--dry-run", "--ladder"), "--ladder: a dry run proves nothing"),
    ],
)
def test_what_a_run_would_refuse_is_refused_in_one_line(place, verbatim, args, said):
    outcome = verbatim("run", *args)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1), outcome
    assert outcome.err.startswith(f"error: {said}") or said in outcome.err


def test_only_the_rows_that_are_meant_are_counted(foretold, place):
    told = foretold("--limit", 4)
    assert (told["num_rows"], told["selection"], told["num_targets"]) == (11, "--limit 4", 2)
    assert {reason: invalid["count"] for reason, invalid in told["invalid"].items()} == {"empty": 1, "null_text": 1}
    earlier_run(place / "run", corpus=str(place / "corpus.jsonl"), id_column=None, num_rows=11)
    (place / "ids").write_text("row-0\nrow-3\n")
    told = foretold("--ids", f"@{place / 'ids'}", "--out", place / "run", "--engine", "hf")
    assert (told["num_done"], told["num_targets"], told["invalid"]) == (1, 1, {})


def test_a_selection_in_words_and_an_id_that_is_not_there(place, verbatim):
    outcome = verbatim("run", "corpus.jsonl", "--dry-run", "--ids", "row-3,row-5")
    assert outcome.out.startswith("corpus.jsonl: 11 rows; of --ids row-3,row-5: 1 target(s), 1 invalid\n")
    outcome = verbatim("run", "corpus.jsonl", "--ids", "row-3,row-11")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: --ids row-11: corpus.jsonl has no such id; give ids as results have them")
