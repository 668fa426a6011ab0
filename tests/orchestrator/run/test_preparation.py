"""A folder and the corpus that it was made from: what may have changed, and what is left to do. No Ray."""

import pytest

from engine.recipe import Recipe
from orchestrator.console.errors import UserError
from orchestrator.corpus import open_corpus
from orchestrator.corpus.intake import Accepted
from orchestrator.corpus.selection import Selection
from orchestrator.results.ledger import Ledger
from orchestrator.run.preparation import RunOptions, prepare
from orchestrator.run.rows import result_row
from tests.orchestrator.made_up import ROW_CONTEXT, run_record, verified_item

TEXTS = {"a": "It was late.", "b": "She made tea.", "c": "The sea was grey."}
ROWS = [{"id": id, "text": text} for id, text in TEXTS.items()]
MORE = [{"id": "d", "text": "A dog ran home."}, {"id": "a", "text": "It was late."}]
RECIPE = Recipe(num_vectors=3)


@pytest.fixture
def folder(tmp_path, write_jsonl):
    """A finished run of ROWS, and beside it their file, which tests may write anew."""
    corpus = open_corpus(write_jsonl(tmp_path / "corpus.jsonl", ROWS))
    facts = dict(corpus_fingerprint=corpus.fingerprint, corpus_rows=corpus.num_rows, rows_digest=corpus.digest())
    record = run_record(corpus=str(corpus.path), recipe=RECIPE, state="finished", num_rows=3, **facts)
    record.write(tmp_path / "run")
    Ledger(tmp_path / "run").commit([result_row(verified_item(id, row), ROW_CONTEXT) for row, id in enumerate(TEXTS)])
    return tmp_path


@pytest.fixture
def prepared(folder):
    def go_on(selection=None):
        selection = selection or Selection()
        return prepare(RunOptions(folder / "corpus.jsonl", folder / "run", RECIPE, selection=selection, engine="hf"))

    return go_on


def to_come(prepared):
    return [item.job.target.id for item in prepared.intake.taken() if isinstance(item, Accepted)]


def test_nothing_is_left_of_the_corpus_that_was_run(prepared):
    same = prepared()
    assert same.is_finished and (same.num_rows, same.num_to_come, same.num_appended) == (3, 0, 0)


def test_texts_that_were_appended_are_to_come_and_no_other(prepared, folder, write_jsonl):
    write_jsonl(folder / "corpus.jsonl", ROWS + MORE)
    more = prepared()
    assert not more.is_finished and (more.num_rows, more.num_to_come, more.num_appended) == (5, 2, 2)
    assert to_come(more) == ["d", "a#4"]
    first = prepared(Selection(4))
    assert (first.num_rows, first.num_to_come) == (4, 1) and to_come(first) == ["d"]
    assert prepared(Selection(2)).is_finished


def test_the_same_rows_in_other_bytes_are_the_same_corpus(prepared, folder):
    path = folder / "corpus.jsonl"
    path.write_text("\n" + path.read_text().replace(": ", ":   ") + "\n")
    assert prepared().is_finished


@pytest.mark.parametrize(
    "rows",
    [
        [*ROWS[:2], {"id": "c", "text": "The sea was grey. "}],
        [*ROWS[:2], {"id": "e", "text": TEXTS["c"]}, *MORE],
        [*ROWS[:2], {"text": TEXTS["c"]}],
        [ROWS[1], ROWS[0], ROWS[2]],
        [MORE[0], *ROWS],
        [*ROWS[:1], MORE[0], *ROWS[1:]],
        ROWS[:2],
        [*ROWS[:2], *MORE],
    ],
    ids=["a text", "an id", "an id taken away", "order", "before", "between", "fewer", "another last row"],
)
def test_any_other_change_is_refused(prepared, folder, write_jsonl, rows):
    write_jsonl(folder / "corpus.jsonl", rows)
    for selection in (Selection(), Selection(1)):
        with pytest.raises(UserError, match="has changed.* not by texts appended at its end; put the old files back"):
            prepared(selection)


def test_a_folder_from_before_rows_were_digested_takes_no_other_file(prepared, folder, write_jsonl):
    record = run_record(corpus=str(folder / "corpus.jsonl"), recipe=RECIPE, corpus_fingerprint="of then")
    record.write(folder / "run")
    with pytest.raises(UserError, match="has changed"):
        prepared()


def test_a_digest_tells_ids_texts_and_where_one_ends(tmp_path, write_jsonl):
    rows = [
        [{"id": "a", "text": "bc"}],
        [{"id": "ab", "text": "c"}],
        [{"id": "a", "text": None}],
        [{"id": "a", "text": "None"}],
        [{"id": None, "text": "bc"}],
        [{"id": "a", "text": "b\udcffc"}],
        [{"id": "a", "text": "bc"}, {"id": "a", "text": ""}],
    ]
    corpora = [open_corpus(write_jsonl(tmp_path / f"{number}.jsonl", each)) for number, each in enumerate(rows)]
    assert len({corpus.digest() for corpus in corpora}) == len(rows)
    assert corpora[-1].digest(1) == corpora[0].digest() == corpora[0].digest(9)


@pytest.mark.parametrize(("asked", "said"), [
    ({"engine": "vllm"}, "--engine vllm: the 3 rows in .* are verified by hf 5 in float32; go on with --engine hf, or"),
    ({"engine_dtype": "bfloat16"}, "--verify-dtype bfloat16: the 3 rows in .* go on with --verify-dtype float32, or"),
])  # fmt: skip
def test_rows_to_come_are_verified_as_those_that_are_there(folder, write_jsonl, asked, said):
    options = {"engine": "hf"} | asked
    prepare(RunOptions(folder / "corpus.jsonl", folder / "run", RECIPE, **options))  # nothing is to come
    write_jsonl(folder / "corpus.jsonl", ROWS + MORE)
    with pytest.raises(UserError, match=said):
        prepare(RunOptions(folder / "corpus.jsonl", folder / "run", RECIPE, **options))


def test_numerics_that_nobody_named_are_compared_once_they_are_known(prepared, folder, write_jsonl):
    write_jsonl(folder / "corpus.jsonl", ROWS + MORE)
    more = prepared()
    more.require_same_proof("hf", "float32")
    with pytest.raises(UserError, match="--verify-dtype bfloat16: the 3 rows"):
        more.require_same_proof("hf", "bfloat16")
