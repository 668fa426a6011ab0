"""What every loss term owes the step that sums them, whatever it measures."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from engine.decoding.trajectory import greedy_tokens
from engine.frozen_lm import FrozenLM
from engine.losses import POSITION_TERMS, ROLLOUT_TERMS, SAMPLE_TERMS, TERMS
from engine.recipe.sections import KnobsRecipe, LossRecipe, TermsRecipe
from tests.engine.losses.views import KNOBS, B, Text, text_of, texts_of, value_and_gradients, view_of

ALL_TERMS = pytest.mark.parametrize("name", TERMS)


def knobs(**changes) -> KnobsRecipe:
    return KNOBS.model_copy(update=changes)


def said_by_the_model(lm: FrozenLM, text: Text) -> Text:
    """The target is the model's greedy continuation, and sampling is as good as greedy: every sample is right."""
    target_T = greedy_tokens(lm, [text.prompt_KD], len(text.target_T))[0]
    return replace(text, target_T=target_T, knobs=knobs(sample_temperature=1e-4, reward="prefix"), baseline=1.0)


ZEROS: dict[str, dict[str, Callable[[FrozenLM, Text], Text]]] = {
    name: {
        "every margin is met": lambda lm, text: replace(text, margin=-1000.0),
        "no position counts": lambda lm, text: replace(text, weight_T=torch.zeros_like(text.weight_T)),
    }
    for name in ("violation_mix", "violation_norm", "squared_hinge", "hinge")
} | {
    name: {"no position counts": lambda lm, text: replace(text, weight_T=torch.zeros_like(text.weight_T))}
    for name in ("soft_hinge", "cross_entropy", "focal")
} | {
    "unlikelihood": {
        "one token over and over": lambda lm, text: replace(text, target_T=torch.full_like(text.target_T, 3)),
        "one position": lambda lm, text: text_of(lm, seed=11, length=1),
    },
    "sequence_unlikelihood": {"no repeats": lambda lm, text: replace(text, knobs=knobs(ngram=16))},
    "simctg": {
        "one position": lambda lm, text: text_of(lm, seed=11, length=1),
        "no distance asked for": lambda lm, text: replace(text, knobs=knobs(contrast_rho=-1.0)),
    },
    "reinforce": {"every reward is the baseline": said_by_the_model},
    "rloo": {"every reward is the same": said_by_the_model},
    "minimum_risk": {"every sample is right": said_by_the_model},
    "prompt_perplexity": {"one vector": lambda lm, text: text_of(lm, seed=11, num_vectors=1)},
    "manifold": {
        f"vectors are token embeddings, {kind}": lambda lm, text, kind=kind: replace(
            text, prompt_KD=lm.embed(torch.tensor([5, 0, 256])).float(), knobs=knobs(manifold=kind)
        )
        for kind in ("nearest", "hull")
    },
}  # fmt: skip
"""Where a term is zero, with zero gradient."""

WITHOUT_ZERO = {"entropy", "autoregressive", "optimal_completion", "professor_forcing"}
"""Softmaxes leave something to every token, and a judge is log 2 at chance, so these only come near zero."""


def test_every_term_has_a_weight_in_recipes_and_every_list_names_terms():
    assert set(TermsRecipe.model_fields) == set(TERMS)
    assert {*POSITION_TERMS, *ROLLOUT_TERMS, *SAMPLE_TERMS} <= set(TERMS)
    for name in POSITION_TERMS:
        assert LossRecipe(name=name).name == name


@ALL_TERMS
def test_a_term_gives_one_finite_value_and_a_finite_gradient_for_each_text(name, tiny_llama):
    loss_B, gradients = value_and_gradients(TERMS[name], view_of(tiny_llama, *texts_of(tiny_llama)))
    assert loss_B.shape == (B,) and loss_B.dtype == torch.float32
    assert loss_B.isfinite().all()
    assert all(grad_KD.isfinite().all() for grad_KD in gradients)
    assert (gradients[0] != 0).any(dim=1).any(), "the longest text learns nothing"


@ALL_TERMS
def test_a_text_costs_the_same_alone_and_in_company(name, float64_lm):
    lm = float64_lm("llama")
    together_B, gradients = value_and_gradients(TERMS[name], view_of(lm, *texts_of(lm)))
    for text, together, grad_KD in zip(texts_of(lm), together_B, gradients, strict=True):
        alone_B, (alone_KD,) = value_and_gradients(TERMS[name], view_of(lm, text))
        torch.testing.assert_close(alone_B[0], together, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone_KD, grad_KD, rtol=1e-4, atol=1e-5 * (1 + float(grad_KD.abs().max())))


@ALL_TERMS
def test_a_term_on_some_texts_of_a_pass_is_that_of_all_at_those_texts(name, float64_lm):
    lm, rows = float64_lm("llama"), [3, 1]
    whole_B = TERMS[name](view_of(lm, *texts_of(lm)))
    torch.testing.assert_close(TERMS[name](view_of(lm, *texts_of(lm)).take(rows)), whole_B[rows], rtol=1e-5, atol=1e-6)


@ALL_TERMS
def test_a_term_never_sends_a_gradient_into_another_text(name, tiny_llama):
    view = view_of(tiny_llama, *texts_of(tiny_llama))
    prompts = [text.prompt_KD for text in view.texts]
    own, *others = torch.autograd.grad(TERMS[name](view)[0], prompts, allow_unused=True)
    assert (own != 0).any()
    assert all(grad_KD is None or (grad_KD == 0).all() for grad_KD in others)


@ALL_TERMS
def test_a_term_can_be_asked_twice(name, tiny_llama):
    """Rollouts and samples are made once a pass and shared by the terms, so the second answer is the first."""
    view = view_of(tiny_llama, *texts_of(tiny_llama))
    assert torch.equal(TERMS[name](view), TERMS[name](view))


def test_rollouts_and_samples_of_some_texts_are_there_for_all(tiny_llama):
    view = view_of(tiny_llama, *texts_of(tiny_llama))
    (rollout,), (samples,) = view.take([2]).rollouts(), view.take([2]).samples()
    assert view.rollouts()[2] is rollout and view.samples()[2] is samples


def test_it_is_known_of_every_term_where_it_is_zero():
    assert ZEROS.keys() | WITHOUT_ZERO == TERMS.keys()
    assert not ZEROS.keys() & WITHOUT_ZERO


@pytest.mark.parametrize(("name", "where"), [(name, where) for name in ZEROS for where in ZEROS[name]])
def test_a_term_is_zero_with_zero_gradient(name, where, tiny_llama):
    """Beside a text at which it is not."""
    usual = texts_of(tiny_llama)[0]
    changed = ZEROS[name][where](tiny_llama, text_of(tiny_llama, seed=13))
    loss_B, (zero_KD, grad_KD) = value_and_gradients(TERMS[name], view_of(tiny_llama, changed, usual))
    assert loss_B[0].abs() < 1e-6 and (zero_KD == 0).all()
    assert (grad_KD != 0).any()


@pytest.mark.parametrize("name", sorted(WITHOUT_ZERO))
def test_a_term_without_a_zero_is_positive(name, tiny_llama):
    assert (TERMS[name](view_of(tiny_llama, *texts_of(tiny_llama))) > 0).all()
