"""Which texts a search sees, and when."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.slots import Job
from engine.target import Invalid, Refusal
from orchestrator.console.errors import UserError
from orchestrator.corpus.intake import Accepted, Refused
from tests.orchestrator.made_up import job
from tune_spaces.sample import MIN_RUNG, Sample, draw_sample


def text(row: int) -> Job:
    """A text of its own tokens."""
    plain = job(f"text {row}")
    return replace(plain, target=replace(plain.target, token_ids=(row, 0)))


TAKEN = [
    Refused(row, f"bad {row}", None, Refusal(Invalid.EMPTY)) if row % 5 == 0 else Accepted(row, text(row))
    for row in range(50)
]


@given(st.integers(2, 20), st.integers(0, 20), st.integers(0, 3))
def test_both_parts_are_drawn_without_repetition_from_the_targets(num_texts, num_hold_out, seed):
    sample = draw_sample(iter(TAKEN), num_texts, num_hold_out, seed)
    ids = [job.target.id for job in sample.tune + sample.hold_out]
    assert (len(sample.tune), len(sample.hold_out)) == (num_texts, num_hold_out)
    assert len(set(ids)) == len(ids) and not any(id.startswith("bad") for id in ids)
    assert draw_sample(iter(TAKEN), num_texts, num_hold_out, seed) == sample
    assert draw_sample(iter(TAKEN), num_texts, num_hold_out, seed + 1) != sample


@pytest.mark.parametrize(
    ("num_texts", "num_hold_out", "split"), [(30, 11, (29, 11)), (16, 64, (8, 32)), (2, 999, (4, 36)), (41, 0, (40, 0))]
)
def test_a_corpus_with_fewer_targets_than_are_asked_for_is_split_in_proportion(num_texts, num_hold_out, split):
    sample = draw_sample(iter(TAKEN), num_texts, num_hold_out, 0)
    assert (len(sample.tune), len(sample.hold_out)) == split
    assert sample.line == f"{split[0]} texts to search with, {split[1] or 'none'} held out"


@pytest.mark.parametrize("num_targets", [0, 1])
def test_a_corpus_in_which_nothing_can_be_compared_is_refused(num_targets):
    few = [Accepted(row, text(row)) for row in range(num_targets)]
    with pytest.raises(UserError, match=f"--texts 16: the corpus has {num_targets} different texts"):
        draw_sample(iter(few), 16, 32, 0)


def test_the_whole_corpus_is_drawn_from_whatever_its_order_and_nothing_else_is_kept():
    many = [Accepted(row, text(row)) for row in range(30_000)]
    sample = draw_sample(iter(many), 50, 50, 3)
    rows = [job.target.token_ids[0] for job in sample.tune + sample.hold_out]
    assert 12_000 < sum(rows) / len(rows) < 18_000 and max(rows) > 25_000
    assert draw_sample(iter(many[::-1] + many[:99]), 50, 50, 3) == sample


@given(st.integers(2, 200))
def test_rungs_hold_every_text_once_and_about_double_at_most(num_texts):
    rungs = Sample([job(str(i)) for i in range(num_texts)], []).rungs
    assert [id for rung in rungs for id in rung] == [str(i) for i in range(num_texts)]
    seen = 0
    for number, rung in enumerate(rungs):
        assert len(rung) >= 1 and (number == 0 or len(rung) <= seen + 3)
        seen += len(rung)
    assert len(rungs[0]) >= min(num_texts, MIN_RUNG) and len(rungs) <= 5


def test_the_texts_to_search_with_can_be_put_in_another_order():
    sample = Sample([job(id) for id in "abcd"], [job("e")])
    assert [id for rung in sample.in_order("dbac").rungs for id in rung] == ["d", "b", "a", "c"]
    assert sample.in_order("dbac").hold_out == sample.hold_out


def test_a_dear_text_is_in_the_first_rung_and_the_others_stay_in_order():
    sample = Sample([job(id) for id in "abcdefghijklmnop"], [])
    rungs = sample.in_order("abcdefghijklmnop", dear="n").rungs
    assert rungs[0] == ["a", "b", "c", "n"] and rungs[1] == ["d", "e", "f", "g"]
    assert sample.in_order("abcdefghijklmnop", dear="b") == sample


def test_a_text_that_comes_twice_is_in_one_part():
    same = [Accepted(row, job(f"text {row}")) for row in range(9)]
    assert len({item.job.target.token_ids for item in same}) == 1
    with pytest.raises(UserError, match="1 different texts"):
        draw_sample(iter(same), 2, 1, 0)
