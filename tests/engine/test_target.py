"""Texts as token ids: what survives the round trip, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.frozen_lm import TokenRule
from engine.model_source import ModelSource
from engine.target import Invalid, Refusal, Target, decode, encode, make_target
from tests.tiny import CONTEXT, END_OF_TEXT

CORPORA = Path(__file__).parents[2] / "corpora"
SPELLED_OUT = f"say {END_OF_TEXT} aloud"


@pytest.fixture(scope="module", params=["pocket", "llama"])
def tokens(request, tiny_folder) -> TokenRule:
    name = "pocket" if request.param == "pocket" else str(tiny_folder(request.param))
    return TokenRule.load(ModelSource(name))


@pytest.mark.parametrize("corpus", ["short_and_odd", "udhr_languages"])
def test_every_text_of_a_corpus_comes_back_byte_for_byte(corpus, tokens):
    tokens = replace(tokens, context=10_000)
    rows = pq.read_table(CORPORA / f"{corpus}.parquet").to_pylist()
    targets = [make_target(tokens, row["id"], row["text"]) for row in rows]
    assert len(targets) >= 50
    for row, target in zip(rows, targets, strict=True):
        assert isinstance(target, Target), (row, target)
        assert target.token_ids[-1] == tokens.end_id and target.token_ids.count(tokens.end_id) == 1
        assert decode(tokens, list(target.token_ids)) == target.text == row["text"]


def test_a_special_token_spelled_out_in_a_text_stays_spelled_out(tokens):
    target = make_target(tokens, "a", SPELLED_OUT, end_of_text=False)
    assert tokens.end_id not in target.token_ids
    assert decode(tokens, list(target.token_ids)) == SPELLED_OUT


def test_nothing_is_added_to_a_text_but_the_end(tokens):
    stops, goes_on = (make_target(tokens, "a", "Ada!", end_of_text=ends) for ends in (True, False))
    assert list(goes_on.token_ids) == encode(tokens, "Ada!")
    assert stops.token_ids == (*goes_on.token_ids, tokens.end_id)
    assert stops.ends and not goes_on.ends


@pytest.mark.parametrize(
    ("id", "text", "reason"),
    [
        (None, "text", Invalid.NULL_ID),
        ("a", None, Invalid.NULL_TEXT),
        ("a", b"bytes", Invalid.NOT_A_STRING),
        ("a", 7, Invalid.NOT_A_STRING),
        ("a", "", Invalid.EMPTY),
        ("a", "lone \ud800 surrogate", Invalid.NOT_UNICODE),
    ],
)
def test_what_is_no_text_is_refused_with_its_reason(id, text, reason, tokens):
    assert make_target(tokens, id, text) == Refusal(reason)


def test_a_text_fits_if_its_prompt_and_its_end_fit_beside_it(tiny_llama):
    fitting = "x" * (CONTEXT - 1 - 3)
    assert isinstance(make_target(tiny_llama.token_rule, "a", fitting, num_vectors=3), Target)
    assert make_target(tiny_llama.token_rule, "a", fitting, num_vectors=4) == Refusal(Invalid.TOO_LONG)
    assert make_target(tiny_llama.token_rule, "a", fitting + "x", num_vectors=3) == Refusal(Invalid.TOO_LONG)
    assert isinstance(make_target(tiny_llama.token_rule, "a", fitting + "x", num_vectors=3, end_of_text=False), Target)


def test_end_of_text_without_such_a_token_is_an_error(tiny_llama):
    tokens = replace(tiny_llama.token_rule, end_id=None)
    with pytest.raises(ValueError, match="end_of_text=false"):
        make_target(tokens, "a", "Ada!")
    assert isinstance(make_target(tokens, "a", "Ada!", end_of_text=False), Target)
