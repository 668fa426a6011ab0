"""`verbatim run --from DIR`: rows of an earlier run as the texts of a new one. No Ray."""

import json
from types import SimpleNamespace

import pytest
import ray

from engine.recipe import load_recipe
from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading
from orchestrator.corpus.intake import Accepted, Refused
from orchestrator.results.ledger import Ledger
from orchestrator.run.earlier_rows import open_earlier
from orchestrator.run.measuring import Measured
from orchestrator.run.origin import find_origin
from orchestrator.run.preparation import RunOptions, prepare
from orchestrator.run.record_keeping import new_record
from orchestrator.run.rows import result_row
from tests.orchestrator.made_up import ROW_CONTEXT, run_record, verified_item

RECIPE = load_recipe(None, ["num_vectors=3", "max_steps=7"])
ROWS = [("v", "verified"), ("u", "unsolved"), ("r", "rejected"), ("w", "unsolved"), ("p", "poisoned"), ("i", "invalid")]


def rows(named, first=0):
    made = [result_row(verified_item(id, row), ROW_CONTEXT) for row, (id, _) in enumerate(named, first)]
    for row, (_, status) in zip(made, named, strict=True):
        row |= {"status": status, "text": None if status == "invalid" else row["text"]}
    return made


@pytest.fixture
def earlier(tmp_path):
    """A run in two parts, of rows of every status."""
    model = run_record().model.model_copy(update={"revision": "main"})
    run_record(recipe=RECIPE, model=model, state="finished").write(tmp_path / "earlier")
    ledger = Ledger(tmp_path / "earlier")
    ledger.commit(rows(ROWS[:3]))
    ledger.commit(rows(ROWS[3:], 3))
    return tmp_path / "earlier"


def asked(earlier, statuses=None, out="new", changes=(), recipe=None):
    origin = find_origin(None, str(earlier), statuses, Reading())
    source = origin.source("pocket", None)
    return RunOptions(
        origin.location, origin.out(str(earlier.parent / out), source), origin.recipe(recipe, list(changes)),
        statuses=origin.statuses, source=source, engine="hf",
    )  # fmt: skip


def ids(corpus):
    return [(row.row, row.id, row.text) for row in corpus.rows()]


def test_rows_are_taken_by_status_with_their_ids_and_texts(earlier):
    corpus = prepare(asked(earlier)).corpus
    assert ids(corpus) == [(0, "u", "text of u"), (1, "r", "text of r"), (2, "w", "text of w")]
    assert corpus.num_rows == 3
    assert ids(prepare(asked(earlier, "poisoned, verified")).corpus) == [(0, "v", "text of v"), (1, "p", "text of p")]


def test_a_text_that_the_earlier_run_could_not_store_is_refused_again(earlier):
    taken = list(prepare(asked(earlier, "invalid,rejected")).intake.taken())
    assert [type(item) for item in taken] == [Accepted, Refused]


def test_recipe_and_model_are_the_earlier_runs_but_for_what_is_asked(earlier, tmp_path):
    origin = find_origin(None, str(earlier), None, Reading())
    assert origin.recipe(None, None) == RECIPE
    assert origin.recipe(None, ["max_steps=9"]) == load_recipe(None, ["num_vectors=3", "max_steps=9"])
    (tmp_path / "own.toml").write_text("seed = 5\n")
    assert origin.recipe(tmp_path / "own.toml", ["max_steps=9"]) == load_recipe(None, ["seed=5", "max_steps=9"])
    assert (origin.source(None, None).name, origin.source(None, None).revision) == ("pocket", "main")
    assert (origin.source(None, "v2").revision, origin.source("gpt2", None).revision) == ("v2", None)


def test_rows_that_the_earlier_run_adds_are_appended_and_lost_ones_refused(earlier):
    before = prepare(asked(earlier)).corpus
    record = run_record(
        corpus=str(earlier), from_status="rejected,unsolved", recipe=RECIPE, corpus_fingerprint=before.fingerprint,
        corpus_rows=3, rows_digest=before.digest(), state="finished",
    )  # fmt: skip
    new = earlier.parent / "new"
    record.write(new)
    Ledger(new).commit(rows([("u", "verified"), ("r", "verified"), ("w", "unsolved")]))
    assert prepare(asked(earlier)).is_finished
    Ledger(earlier).commit(rows([("x", "verified"), ("y", "unsolved")], 6))
    more = prepare(asked(earlier))
    assert (more.num_to_come, more.num_appended, more.num_rows) == (1, 1, 4)
    record.model_copy(update={"rows_digest": "of others"}).write(new)
    with pytest.raises(
        UserError, match=r"--from .*earlier: its rows have changed since the run in .*new began; choose"
    ):
        prepare(asked(earlier))
    with pytest.raises(UserError, match="holds another run .*from_status: rejected,unsolved -> poisoned"):
        prepare(asked(earlier, "poisoned"))


def test_the_record_names_the_run_and_the_rows(earlier):
    info = SimpleNamespace(fingerprint="f", hidden_size=3, dtype="float32", device_name="cpu")
    spec = SimpleNamespace(context=128, dtype="float32")
    prepared = prepare(asked(earlier))
    measured = Measured(None, "hf 5", prepared.options.recipe, None)
    record = new_record(prepared, info, measured, spec)  # type: ignore[arg-type]
    assert (record.corpus, record.from_status, record.corpus_rows) == (str(earlier), "rejected,unsolved", 3)
    assert record.rows_digest == record.corpus_fingerprint and record.num_rows == 3


def test_no_rows_of_a_status(earlier):
    Ledger(earlier.parent / "other").commit(rows(ROWS[:2]))
    with pytest.raises(UserError, match="no row is rejected; it holds 1 unsolved, 1 verified; give another --status"):
        open_earlier(earlier.parent / "other", ("rejected",))


def test_a_dry_run_counts_them_under_the_earlier_recipe(earlier, verbatim, contents):
    before = contents(earlier.parent)
    outcome = verbatim("run", "--from", earlier, "--out", earlier.parent / "new", "--dry-run", "--json")
    told = json.loads(outcome.out)
    assert told["corpus"] == f"{earlier} (rejected,unsolved)" and told["num_targets"] == 3
    assert told["recipe"]["max_steps"] == 7 and contents(earlier.parent) == before


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "CORPUS: is missing; give texts, or an earlier run's folder with --from"),
        (("c.jsonl", "--status", "unsolved"), "--status unsolved: chooses rows of an earlier run"),
        (("c.jsonl", "--from", "{}", "--out", "new"), "and CORPUS c.jsonl: give one of both"),
        (("--from", "{}"), "give the new run a folder with --out"),
        (("--from", "{}", "--out", "{}"), "is the run that the texts are taken from; choose another folder"),
        (
            ("--from", "{}", "--out", "new", "--status", "solved"),
            "--status solved: 'solved' is none; give some of invalid,",
        ),
        (("--from", "{}", "--out", "new", "--id-column", "id"), "leave away what says how to read a corpus"),
        (("--from", "nowhere", "--out", "new"), "nowhere: no run.json there; give the --out folder of a run"),
        (("--from", "{}", "--out", "new", "--status", ""), "'' is none"),
        (("--from", "", "--out", "new"), "--from: is empty; give a path or a URI"),
    ],
)
def test_what_is_refused(earlier, verbatim, contents, monkeypatch, args, said):
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("started Ray"))
    monkeypatch.chdir(earlier.parent)
    before = contents(earlier.parent)
    outcome = verbatim("run", *(arg.format(earlier) for arg in args))
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1), outcome
    assert said in outcome.err and contents(earlier.parent) == before
