"""A folder whose corpus is run piece by piece: on real Ray, with the real command line."""

import json

import pytest

from orchestrator.results.ledger import Ledger

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TEXTS = ["It was late.", "She made tea.", "The sea was grey."]
GROWN = [*TEXTS, "A dog ran home."]
ONE_STEP = ("--set", "num_vectors=8", "--set", "max_steps=1", "--set", "attempts=1", "--no-dashboard", "--engine", "hf")
"""Nothing is solved in one step, so that a run takes a moment."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_jsonl):
    """A corpus, and a folder beside it that the tests below fill one after another."""
    place = tmp_path_factory.mktemp("life")
    write_jsonl(place / "corpus.jsonl", [{"text": text} for text in TEXTS])
    return place


@pytest.fixture
def run(place, verbatim, contents):
    """Run rows of the corpus: rows that the folder holds stay as they are."""

    def go(*args):
        before = {name: content for name, content in contents(place).items() if name.startswith("out/results/")}
        outcome = verbatim("run", place / "corpus.jsonl", "--out", place / "out", *ONE_STEP, *args)
        assert outcome.code == 3, outcome
        assert before.items() <= contents(place).items()
        return " ".join(outcome.out.split())

    return go


def stored(place):
    return sorted((row["row"], row["id"], row["text"]) for row in Ledger(place / "out").read(["row", "id", "text"]))


def record(place):
    return json.loads((place / "out" / "run.json").read_text())


def test_the_first_row_alone(place, run):
    assert "0 of 1 exact" in run("--limit", 1)
    assert stored(place) == [(0, "row-0", TEXTS[0])]
    assert (record(place)["state"], record(place)["num_rows"], record(place)["selection"]) == (
        "finished",
        1,
        "--limit 1",
    )
    assert "is finished: 1 rows, nothing to do" in run("--limit", 1)
    assert "is finished: 1 rows, nothing to do" in run("--ids", "row-0")


def test_another_row_of_a_corpus_that_has_grown_comes_to_it(place, run, write_jsonl):
    write_jsonl(place / "corpus.jsonl", [{"text": text} for text in GROWN])
    said = run("--ids", "row-0,row-3")
    assert (
        "holds 1 rows of a run that is finished; 1 were appended to the corpus, 1 are to come (--ids row-0,row-3)"
        in said
    )
    assert "0 of 2 exact" in said and stored(place) == [(0, "row-0", GROWN[0]), (3, "row-3", GROWN[3])]
    now = record(place)
    assert (now["num_rows"], now["corpus_rows"], now["counts"]) == (2, 4, {"unsolved": 2})
    assert now["state"] == "finished" and now["selection"] == "--ids row-0,row-3"
    assert "is finished: 2 rows, nothing to do" in run("--ids", "row-3")


def test_what_stayed_unsolved_is_solved_in_another_folder_by_another_recipe(place, verbatim, contents):
    before = contents(place / "out")
    asked = ("--set", "num_vectors=16", "--set", "max_steps=300", "--set", "attempts=5")
    outcome = verbatim("run", "--from", place / "out", *asked, "--out", place / "again", *ONE_STEP[-3:])
    assert outcome.code == 0, outcome
    rows = {row["id"]: (row["row"], row["text"], row["exact"]) for row in Ledger(place / "again").read()}
    assert rows == {"row-0": (0, GROWN[0], True), "row-3": (1, GROWN[3], True)}
    new = json.loads((place / "again" / "run.json").read_text())
    assert (new["corpus"], new["from_status"]) == (str(place / "out"), "rejected,unsolved")
    assert (new["recipe"]["max_steps"], new["corpus_rows"], new["num_rows"]) == (300, 2, 2)
    assert contents(place / "out") == before
