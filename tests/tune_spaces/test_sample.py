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


def test_a_corpus_with_too_few_targets_is_refused():
    with pytest.raises(UserError, match="--texts 30 and --hold-out 11: the corpus has 40 different texts"):
        draw_sample(iter(TAKEN), 30, 11, 0)


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


def test_a_text_that_comes_twice_is_in_one_part():
    same = [Accepted(row, job(f"text {row}")) for row in range(9)]
    assert len({item.job.target.token_ids for item in same}) == 1
    with pytest.raises(UserError, match="1 different texts"):
        draw_sample(iter(same), 2, 1, 0)
