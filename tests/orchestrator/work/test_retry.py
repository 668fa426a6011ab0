"""What the next attempt does differently, and where it stops asking for more."""

from dataclasses import replace

import pytest
import torch

from orchestrator.work.retry import MAX_MARGIN, make_retry
from tests.orchestrator.made_up import K, T, attempt, job, verdict

CONTEXT = 64


def after(job, *, verdict=None, grows=True, context=CONTEXT):
    return make_retry(context, grows)(job, attempt(job, is_solved=verdict is not None), verdict)


@pytest.mark.parametrize(("growth", "vectors"), [(1.0, K), (1.25, K + 1), (2.0, 2 * K), (3.0, 3 * K)])
def test_an_unsolved_text_gets_more_vectors_by_the_recipes_factor(growth, vectors):
    assert after(job("a", growth=growth)).num_vectors == vectors


def test_vectors_grow_no_further_than_the_context():
    assert after(job("a", growth=8.0), context=K + T + 1).num_vectors == K + 1


def test_vectors_that_the_user_fixed_stay():
    assert after(job("a"), grows=False).num_vectors == K


def test_every_attempt_has_its_own_number_and_so_its_own_random_stream():
    first = job("a")
    second = after(first, grows=False)
    assert [first.attempt, second.attempt, after(second, grows=False).attempt] == [0, 1, 2]


def test_a_rejected_prompt_is_the_next_start_with_more_margin_where_it_broke():
    first = job("a", margin_growth=2.0)
    second = after(first, verdict=verdict("a", exact=False, first_mismatch=3))
    assert second.recipe.stop_margin == 2 * first.recipe.stop_margin
    assert second.recipe.loss.margin == 2 * first.recipe.loss.margin
    assert second.focus == (3,) and second.num_vectors == K
    assert torch.equal(second.start_KD, attempt(first).prompt_KD)


def test_a_prompt_that_beams_rejected_is_to_lead_every_other_text_by_more():
    first = job("a", margin_growth=2.0, proof="beam")
    second = after(first, verdict=replace(verdict("a", exact=False, first_mismatch=3), beams=4))
    assert second.recipe.proof == "beam" and second.recipe.stop_margin == 2 * first.recipe.stop_margin
    assert torch.equal(second.start_KD, attempt(first).prompt_KD) and second.focus == (3,)


def test_a_text_that_did_not_stop_has_no_position_to_weigh():
    assert after(job("a"), verdict=verdict("a", exact=False, first_mismatch=T)).focus == ()


def test_margins_grow_no_further_than_their_bound_and_then_it_starts_afresh():
    highest, starts_afresh = job("a", margin_growth=2.0), False
    for _ in range(10):
        highest = after(highest, verdict=verdict("a", exact=False))
        assert highest.recipe.loss.margin <= MAX_MARGIN
        starts_afresh |= highest.start_KD is None
    assert starts_afresh


def test_an_unsolved_attempt_after_a_rejected_one_forgets_its_start():
    rejected = after(job("a"), verdict=verdict("a", exact=False))
    unsolved = after(rejected)
    assert unsolved.start_KD is None and unsolved.focus == ()


def test_an_unsolved_text_goes_on_from_its_best_prompt_where_the_recipe_says_so():
    first = job("a", after_failure="correct", growth=3.0)
    second = after(first)
    assert second.num_vectors == K and second.attempt == 1
    assert torch.equal(second.start_KD, attempt(first, is_solved=False).prompt_KD)
    assert second.focus == (attempt(first, is_solved=False).certificate.first_mismatch,)


def test_an_unsolved_text_is_next_tried_with_the_portfolios_next_members_and_a_rejected_one_with_its_own():
    first = job("a", siblings=2, margin_growth=2.0)
    second = after(first)
    assert (second.member, after(second).member) == (2, 4)
    assert after(second, verdict=verdict("a", exact=False)).member == 2
