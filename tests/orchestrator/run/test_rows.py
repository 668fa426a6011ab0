"""What a row says about a text that was not proved."""

from dataclasses import replace

import pytest

from engine.certificate import Certificate
from orchestrator.run.rows import RowContext, result_row
from orchestrator.work.item import Item, State
from tests.orchestrator.made_up import T, attempt, job, verdict, verified_item

WORDS = {1: "te", 2: "xt", 3: " o", 4: "f a", 0: ""}
CONTEXT = RowContext("0" * 16, "f" * 32, "float32", says=lambda ids: "".join(WORDS.get(id, "?") for id in ids))


def test_a_verified_row_is_diagnosed_exact():
    row = result_row(verified_item("a"), CONTEXT)
    assert (row["diagnosis"], row["token_accuracy"], row["seq_rep_4"]) == ("exact", 1.0, 0.0)
    assert row["teacher_forced_nats"] == pytest.approx(0.125)


def test_a_text_that_was_no_target_is_kept_unless_it_is_huge():
    for text, kept in (("", ""), (None, None), (5, None), ("a\udcff", None), ("a" * 65_536, "a" * 65_536)):
        assert result_row(Item(0, "a", text, State.INVALID), CONTEXT)["text"] == kept
    assert result_row(Item(0, "a", "a" * 65_537, State.INVALID), CONTEXT)["text"] is None
    assert result_row(Item(0, "a", "a" * 65_537, State.UNSOLVED, job("a")), CONTEXT)["text"] == "a" * 65_537


def test_an_unsolved_row_is_diagnosed_from_what_the_solver_heard():
    heard = replace(attempt(job("a"), is_solved=False), generated_ids=(1, 2, 9, 8, 7))
    row = result_row(Item(0, "a", "text of a", State.UNSOLVED, job("a"), attempt=heard), CONTEXT)
    assert row["generated_ids"] is None and row["diagnosis"] == "drift"
    assert row["token_accuracy"] == pytest.approx(2 / T)
    assert row["teacher_forced_nats"] == pytest.approx(2.5)


def test_a_rejected_row_is_diagnosed_from_the_verifiers_words():
    item = Item(
        0, "a", "text of a", State.REJECTED, job("a"), attempt=attempt(job("a")), verdict=verdict("a", exact=False)
    )
    row = result_row(item, CONTEXT)
    assert row["generated_ids"] == [1, 2] and row["diagnosis"] == "drift"


def test_a_row_nobody_listened_to_has_no_diagnosis():
    row = result_row(
        Item(0, "a", "text of a", State.UNSOLVED, job("a"), attempt=attempt(job("a"), is_solved=False)), CONTEXT
    )
    assert row["diagnosis"] is None and row["token_accuracy"] is None


def test_a_row_tells_how_far_up_the_ladder_its_prompt_got():
    assert result_row(verified_item("a"), CONTEXT)["rung"] == "greedy"
    rejected = Item(0, "a", "", State.REJECTED, job("a"), attempt=attempt(job("a")), verdict=verdict("a", exact=False))
    assert result_row(rejected, CONTEXT)["rung"] == "margin"
    read = replace(rejected, verdict=replace(verdict("a", exact=False), target_margins=(0.5, 0.25, 2.0)))
    assert (result_row(read, CONTEXT)["rung"], result_row(read, CONTEXT)["engine_margin"]) == ("scored", 0.25)
    wrong = replace(rejected, verdict=replace(verdict("a", exact=False), target_margins=(0.5, -0.25, 2.0)))
    assert (result_row(wrong, CONTEXT)["rung"], result_row(wrong, CONTEXT)["engine_margin"]) == ("margin", -0.25)
    asking = job("a", stop_margin=1.0)
    assert result_row(replace(rejected, job=asking, attempt=attempt(asking)), CONTEXT)["rung"] == "argmax"
    unsolved = Item(0, "a", "", State.UNSOLVED, job("a"), attempt=attempt(job("a"), is_solved=False))
    assert result_row(unsolved, CONTEXT)["rung"] == "none"
    assert result_row(Item(0, "a", "", State.INVALID), CONTEXT)["rung"] is None


def test_a_row_says_which_proof_it_has_and_how_likely_its_text_is():
    greedy = verified_item("a")
    assert [result_row(greedy, CONTEXT)[key] for key in ("proof", "log_prob", "beam_slack")] == ["greedy", -0.625, -1.5]
    beamed = replace(greedy, attempt=attempt(job("a"), slack=0.75), verdict=replace(verdict("a"), beams=4))
    assert [result_row(beamed, CONTEXT)[key] for key in ("proof", "exact", "beam_slack")] == ["beam", True, 0.75]
    denied = replace(beamed, verdict=replace(verdict("a", exact=False), beams=4))
    assert [result_row(denied, CONTEXT)[key] for key in ("proof", "exact")] == [None, False]


def test_a_prefix_has_no_probability_of_the_text():
    prefix = replace(attempt(job("a"), is_solved=False), certificate=Certificate(1.0, 2, T, 0.1, 1.0))
    row = result_row(Item(0, "a", "text of a", State.UNSOLVED, job("a"), attempt=prefix), CONTEXT)
    assert (row["log_prob"], row["beam_slack"]) == (None, None)


def test_a_text_may_be_exact_where_its_tokens_are_not():
    other_tokens = replace(verdict("a", exact=False), generated_ids=(1, 2, 3, 4))
    item = Item(0, "a", "text of a", State.REJECTED, job("a"), attempt=attempt(job("a")), verdict=other_tokens)
    row = result_row(item, CONTEXT)
    assert (row["exact"], row["text_exact"]) == (False, True)
    row = result_row(verified_item("a"), CONTEXT)
    assert (row["exact"], row["text_exact"]) == (True, True)
    row = result_row(replace(item, verdict=verdict("a", exact=False)), CONTEXT)
    assert (row["exact"], row["text_exact"]) == (False, False)
