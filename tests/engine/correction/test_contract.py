"""What every proposer must do, whatever it looks at."""

from dataclasses import replace

import pytest
import torch

from engine.correction.proposers import BASE_SCALE, PROPOSERS
from engine.correction.situation import look, score
from engine.soft_prompt import Origin, target_start
from tests.engine.correction.networks import SIZES, proposer, shaken, situations
from tests.engine.slow import draw_prompt, seeded

EVERY_KIND = pytest.mark.parametrize("kind", PROPOSERS)
EVERY_DEPTH = pytest.mark.parametrize("layers", [0, 2])


@EVERY_KIND
@EVERY_DEPTH
def test_any_number_of_vectors_and_tokens_gives_a_prompt_of_their_number(kind, layers, tiny_llama):
    proposed = shaken(proposer(kind, tiny_llama, layers)).propose(tiny_llama, situations(tiny_llama))
    assert [tuple(prompt_KD.shape) for prompt_KD in proposed] == [(k, tiny_llama.hidden_size) for k, _ in SIZES]
    assert all(prompt_KD.isfinite().all() and prompt_KD.dtype == torch.float32 for prompt_KD in proposed)


@EVERY_KIND
@EVERY_DEPTH
def test_a_text_gets_the_same_prompt_alone_and_in_company(kind, layers, tiny_llama):
    net, seen = shaken(proposer(kind, tiny_llama, layers)), situations(tiny_llama)
    for situation, together in zip(seen, net.propose(tiny_llama, seen), strict=True):
        (alone,) = net.propose(tiny_llama, [situation])
        torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


@EVERY_KIND
def test_an_untrained_network_changes_nothing(kind, tiny_llama):
    for seen, prompt_KD in zip(
        situations(tiny_llama), proposer(kind, tiny_llama).propose(tiny_llama, situations(tiny_llama)), strict=True
    ):
        origin = Origin(seen.num_vectors, seeded(0), seen.target_T)
        base = BASE_SCALE * target_start(tiny_llama, origin) if kind == "hypothesiser" else seen.prompt_KD
        torch.testing.assert_close(prompt_KD, base)


@pytest.mark.parametrize(
    ("kind", "looks_at"),
    [
        ("hypothesiser", {"target_T"}),
        ("corrector", {"target_T", "prompt_KD", "said_T", "margin_T"}),
        ("step", {"target_T", "prompt_KD", "said_T", "margin_T", "gradient_KD"}),
    ],
)
def test_a_kind_looks_at_what_it_says_and_at_nothing_else(kind, looks_at, tiny_llama):
    net = shaken(proposer(kind, tiny_llama))
    seen = situations(tiny_llama, [(5, 23)])[0]
    (before,) = net.propose(tiny_llama, [seen])
    others = {
        "target_T": (seen.target_T + 1) % 257,
        "prompt_KD": seen.prompt_KD + 0.5 * draw_prompt(tiny_llama, 5, seed=9).detach(),
        "said_T": (seen.said_T + 1) % 257,
        "margin_T": -seen.margin_T,
        "gradient_KD": seen.gradient_KD.flip(0),
    }
    for name, value in others.items():
        (after,) = net.propose(tiny_llama, [replace(seen, **{name: value})])
        assert torch.equal(before, after) != (name in looks_at), name


def test_a_learned_step_does_not_know_the_size_of_a_gradient(tiny_llama):
    net, seen = shaken(proposer("step", tiny_llama)), situations(tiny_llama, [(5, 23)])[0]
    scaled = replace(seen, gradient_KD=1000 * seen.gradient_KD)
    torch.testing.assert_close(net.propose(tiny_llama, [seen]), net.propose(tiny_llama, [scaled]), rtol=0, atol=1e-4)


@EVERY_KIND
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_gradient_through_a_two_layer_model_is_that_of_finite_differences(kind, family, float64_lm):
    lm = float64_lm(family)
    net = shaken(proposer(kind, lm)).double()
    seen = situations(lm, [(3, 7), (2, 5)])
    targets = [s.target_T for s in seen]

    def loss() -> torch.Tensor:
        return score(lm, net.propose(lm, seen), targets)[1].double().sum()

    weights = list(net.parameters())
    gradients = torch.autograd.grad(loss(), weights)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    directions = [torch.randn(w.shape, generator=seeded(1), dtype=w.dtype) for w in weights]
    size = 1e-3 / sum(d.square().sum() for d in directions).sqrt()
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, direction in zip(weights, directions, strict=True):
                weight += sign * size * direction
            values.append(loss())
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)) * size
    # Logits are rounded to float32 on the way, hence a tolerance.
    assert float((values[0] - values[1]) / 2) == pytest.approx(float(slope), rel=0.02, abs=2e-6)


def test_a_measured_prompt_says_what_greedy_decoding_says_up_to_its_first_mistake(tiny_llama):
    from engine.decoding import greedy

    for seen in situations(tiny_llama):
        said = greedy(tiny_llama, seen.prompt_KD[None], max_tokens=len(seen.target_T))[0]
        wrong = (seen.margin_T <= 0).nonzero()
        first = int(wrong[0]) if len(wrong) else len(seen.target_T)
        assert list(said)[: first + 1] == seen.said_T.tolist()[: first + 1]


def test_looking_leaves_no_gradient_behind(tiny_llama):
    prompt_KD = draw_prompt(tiny_llama, 3, seed=1)
    (seen,) = look(tiny_llama, [prompt_KD], [torch.arange(5)], with_gradient=True)
    assert prompt_KD.grad is None and not seen.prompt_KD.requires_grad and seen.gradient_KD.abs().sum() > 0
    assert look(tiny_llama, [prompt_KD], [torch.arange(5)])[0].gradient_KD is None
