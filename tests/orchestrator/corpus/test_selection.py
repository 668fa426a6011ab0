"""Selections: rows by number and by id, as they are asked for and as a corpus has them."""

from itertools import count

import pytest

from engine.recipe import Recipe
from orchestrator.console.errors import UserError
from orchestrator.corpus import Corpus, CorpusRow, open_corpus
from orchestrator.corpus.intake import Accepted, Intake
from orchestrator.corpus.selection import Selection, parse_selection

SOUND = "The cat sat on the mat."
IDS = ("a", "b", "a", None, "c")
TEXTS = (SOUND,) * len(IDS)


@pytest.fixture
def intake(tmp_path, write_jsonl, tokens):
    """An intake of rows with these ids, some of which have their result."""

    def take(selection, skip=frozenset(), texts=TEXTS):
        rows = [{"id": id, "text": text} for id, text in zip(IDS, texts, strict=True)]
        corpus = open_corpus(write_jsonl(tmp_path / "corpus.jsonl", rows))
        return Intake(corpus, tokens, Recipe(num_vectors=3), skip=skip, selection=selection)

    return take


def taken(intake):
    return [(item.row, item.job.target.id) for item in intake.taken() if isinstance(item, Accepted)]


def test_what_is_asked_for(tmp_path):
    assert parse_selection(None, None) == Selection() and Selection().is_everything
    assert parse_selection(3, None) == Selection(limit=3)
    assert parse_selection(None, "a, b,a#2") == Selection(ids=frozenset({"a", "b", "a#2"}))
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeffa,b\r\n\r\n c \nä".encode())
    assert parse_selection(None, f"@{path}") == Selection(ids=frozenset({"a,b", " c ", "ä"}))


@pytest.mark.parametrize(
    ("limit", "ids", "said"),
    [
        (2, "a", "--limit 2 and --ids a: give one of both"),
        (None, "", "--ids : names no id; give A,B or @FILE"),
        (None, " , ", "names no id"),
        (None, "@nowhere.txt", "--ids @nowhere.txt: cannot be read"),
        (None, "@.", "--ids @.: cannot be read"),
    ],
)
def test_what_cannot_be_asked_for(limit, ids, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        parse_selection(limit, ids)
    assert said in str(refused.value)


def test_a_file_of_ids_that_is_not_text(tmp_path):
    (tmp_path / "ids").write_bytes(b"a\n\xff\n")
    with pytest.raises(UserError, match=r"not UTF-8\); give a file"):
        parse_selection(None, f"@{tmp_path / 'ids'}")


def test_a_selection_is_told_shortly():
    assert [str(Selection()), str(Selection(7))] == ["all rows", "--limit 7"]
    assert str(Selection(ids=frozenset("hgfedcba"))) == "--ids a,b,c,d,e and 3 more"


def test_the_first_rows_keep_their_places_and_ids(intake):
    assert taken(intake(Selection(3))) == [(0, "a"), (1, "b"), (2, "a#2")]
    assert len(taken(intake(Selection(99)))) == len(IDS)


def test_ids_are_those_that_results_have(intake):
    assert taken(intake(Selection(ids=frozenset({"#3", "a#2", "b"})))) == [(1, "b"), (2, "a#2"), (3, "#3")]


def test_rows_that_have_their_result_are_not_to_come(intake):
    chosen = intake(Selection(3), skip=frozenset({"b", "c"}))
    assert taken(chosen) == [(0, "a"), (2, "a#2")] and chosen.num_to_come() == 2
    chosen = intake(Selection(ids=frozenset({"b", "c"})), skip=frozenset({"b"}))
    assert taken(chosen) == [(4, "c")] and chosen.num_to_come() == 1


def test_an_id_that_no_row_has_is_named(intake):
    for skip in (frozenset(), frozenset({"b"})):
        with pytest.raises(
            UserError, match=r"--ids a#1: .*corpus\.jsonl has no such id; give ids as results have them"
        ):
            intake(Selection(ids=frozenset({"b", "zebra", "a#1"})), skip=skip).num_to_come()


def test_no_row_is_read_beyond_the_last_that_is_meant(tokens):
    class Endless(Corpus):
        def rows(self):
            for number in count():
                assert number < 6, "read on"
                yield CorpusRow(number, f"id-{number}", SOUND)

    corpus = Endless("made up", "text", "id", 10**8, "", (), "doubled")
    for selection in (Selection(6), Selection(ids=frozenset({"id-2", "id-5"}))):
        chosen = Intake(corpus, tokens, Recipe(num_vectors=3), selection=selection)
        assert taken(chosen)[-1] == (5, "id-5")


def test_rows_that_are_not_meant_do_not_count_as_targets(intake):
    texts = ("", None, SOUND, SOUND, "")
    intake(Selection(3), texts=texts).require_a_target()
    with pytest.raises(UserError, match="none of the 2 rows of --limit 2 can be a target; row 0 is empty"):
        intake(Selection(2), texts=texts).require_a_target()
    with pytest.raises(UserError, match="none of the 1 rows of --ids c can be a target; row 4 is empty"):
        intake(Selection(ids=frozenset({"c"})), texts=texts).require_a_target()
