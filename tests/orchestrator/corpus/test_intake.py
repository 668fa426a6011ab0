"""Intake: one item for every row of a corpus, whatever the row holds."""

from collections import Counter
from dataclasses import replace

import pytest

from engine.capacity import VectorPlan
from engine.recipe import Recipe
from engine.target import Invalid
from orchestrator.console.errors import UserError
from orchestrator.corpus import open_corpus
from orchestrator.corpus.intake import Accepted, Intake, easiest_first
from tests.tiny_tokenizers import words

SOUND = "The cat sat on the mat."


@pytest.fixture
def take(tmp_path, write_jsonl, tokens):
    """Take rows in: `take(rows)` gives one item a row."""

    def taken(rows, num_vectors=3, plan=None, skip=frozenset()):
        corpus = open_corpus(write_jsonl(tmp_path / "corpus.jsonl", rows))
        return list(Intake(corpus, tokens, Recipe(num_vectors=num_vectors), plan, skip).taken())

    return taken


def said(item):
    """An item's id and what became of it."""
    return (item.job.target.id, "accepted") if isinstance(item, Accepted) else (item.id, item.why.reason)


def test_every_row_becomes_one_item_in_order_with_its_reason(take, tokens):
    rows = [
        {"id": "sound", "text": SOUND},
        {"id": "empty", "text": ""},
        {"id": "null", "text": None},
        {"id": "number", "text": 5},
        {"id": "long", "text": SOUND * tokens.context},
        {"id": "surrogate", "text": "a\udcff"},
        {"id": None, "text": SOUND},
        {"id": "sound", "text": SOUND},
    ]
    items = take(rows)
    assert [item.row for item in items] == list(range(len(rows)))
    assert [said(item) for item in items] == [
        ("sound", "accepted"),
        ("empty", Invalid.EMPTY),
        ("null", Invalid.NULL_TEXT),
        ("number", Invalid.NOT_A_STRING),
        ("long", Invalid.TOO_LONG),
        ("surrogate", Invalid.NOT_UNICODE),
        ("#6", "accepted"),
        ("sound#7", "accepted"),
    ]


def test_the_first_row_whose_id_had_to_be_made_is_told_and_no_other(tmp_path, write_jsonl, tokens):
    rows = [{"id": "a", "text": SOUND}, {"id": "a", "text": SOUND}, {"text": SOUND}]
    corpus, told = open_corpus(write_jsonl(tmp_path / "c.jsonl", rows)), []
    items = list(Intake(corpus, tokens, Recipe(num_vectors=3), say=told.append).taken())
    assert [said(item)[0] for item in items] == ["a", "a#1", "#2"]
    assert told == ["row 1 has the id a of an earlier row and is called a#1; so is every such row, none is lost"]


def test_a_text_that_no_context_holds_is_refused_before_it_is_tokenised(take, tokens, monkeypatch):
    assert 10_000 < tokens.max_characters < 1_000_000
    longest = "a" * tokens.max_characters
    monkeypatch.setattr("engine.target.spell", lambda *_: pytest.fail("tokenised"))
    assert [said(item) for item in take([{"id": "a", "text": longest + "a"}])] == [("a", Invalid.TOO_LONG)]
    with pytest.raises(pytest.fail.Exception, match="tokenised"):
        take([{"id": "a", "text": longest}])


def test_a_text_that_its_tokens_do_not_give_back_is_refused(tmp_path, write_jsonl, tokens):
    lossy = replace(tokens, tokenizer=words())
    corpus = open_corpus(write_jsonl(tmp_path / "c.jsonl", [{"id": "a", "text": "Cat"}, {"id": "b", "text": "cat"}]))
    items = Intake(corpus, lossy, Recipe(num_vectors=3, end_of_text=False)).taken()
    assert [said(item) for item in items] == [("a", Invalid.NOT_ROUND_TRIPPABLE), ("b", "accepted")]


def test_ids_made_for_duplicates_are_unlike_any_other(take):
    rows = [{"id": id, "text": SOUND} for id in ("a", "a#2", "a", "a", "a#2")]
    given = [said(item)[0] for item in take(rows)]
    assert given == ["a", "a#2", "a#2#", "a#3", "a#2#4"]
    assert max(Counter(given).values()) == 1


def test_rows_that_have_a_result_are_skipped_and_the_rest_keep_their_ids(take):
    rows = [{"id": id, "text": SOUND} for id in ("a", "b", "a", None, "c")]
    everything = [said(item) for item in take(rows)]
    rest = [said(item) for item in take(rows, skip=frozenset({"a", "a#2", "#3"}))]
    assert rest == [said for said in everything if said[0] in ("b", "c")]


def test_rows_that_have_a_result_are_not_tokenised_again(take, monkeypatch):
    monkeypatch.setattr("orchestrator.corpus.intake.make_target", lambda *_, **__: pytest.fail("tokenised"))
    rows = [{"id": id, "text": SOUND} for id in ("a", "b", "a")]
    assert take(rows, skip=frozenset({"a", "b", "a#2"})) == []
    with pytest.raises(pytest.fail.Exception, match="tokenised"):
        take(rows, skip=frozenset({"a", "a#2"}))


def test_a_fixed_number_of_vectors_is_taken_and_a_plan_goes_by_length(take):
    rows = [{"id": "a", "text": SOUND}, {"id": "b", "text": SOUND * 5}]
    assert [item.job.num_vectors for item in take(rows)] == [3, 3]
    plan = VectorPlan(((8, 4), (32, 16)))
    planned = take(rows, num_vectors="auto", plan=plan)
    lengths = [len(item.job.target.token_ids) for item in planned]
    assert [item.job.num_vectors for item in planned] == [plan.num_vectors(length, 1024) for length in lengths]
    assert planned[0].job.num_vectors < planned[1].job.num_vectors


def test_a_text_fits_the_context_only_beside_its_vectors(take, tokens):
    rows = [{"id": "a", "text": SOUND}]
    (alone,) = take(rows, num_vectors=1)
    room = tokens.context - len(alone.job.target.token_ids)
    assert [said(item)[1] for item in take(rows, num_vectors=room)] == ["accepted"]
    assert [said(item)[1] for item in take(rows, num_vectors=room + 1)] == [Invalid.TOO_LONG]


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), (None, "null_text"), (SOUND * 1024, "too_long: .* 1024")])
def test_a_corpus_without_any_target_is_refused_with_the_first_reason(tmp_path, write_jsonl, tokens, text, reason):
    corpus = open_corpus(write_jsonl(tmp_path / "c.jsonl", [{"text": text}, {"text": ""}]))
    with pytest.raises(UserError, match=rf"none of its 2 rows can be a target; row 0 is {reason}"):
        Intake(corpus, tokens, Recipe()).require_a_target()


def test_one_target_is_enough(tmp_path, write_jsonl, tokens):
    corpus = open_corpus(write_jsonl(tmp_path / "c.jsonl", [{"text": ""}, {"text": SOUND}]))
    Intake(corpus, tokens, Recipe(), skip=frozenset({"row-1"})).require_a_target()


def test_easiest_first_sorts_within_windows_and_loses_nothing(take):
    rows = [{"id": f"{n}", "text": SOUND * n} for n in (3, 1, 2)] + [
        {"id": "null", "text": None},
        {"id": "4", "text": SOUND},
    ]
    taken = take(rows)

    def difficulty(targets):
        return [float(len(target.token_ids)) for target in targets]

    ordered = list(easiest_first(iter(taken), difficulty, window=4))
    assert [said(item)[0] for item in ordered] == ["null", "1", "2", "3", "4"]
