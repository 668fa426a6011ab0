"""Terms over the soft prompt itself, each against a slow loop; the convex hull against a search over its faces."""

from dataclasses import replace
from itertools import chain, combinations

import pytest
import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.losses import prompts
from engine.losses.prompts import HULL_STEPS, manifold, nearest_embedding, nearest_in_hull, prompt_perplexity
from tests.engine.live_memory import LiveMemory
from tests.engine.losses.views import (
    KNOBS,
    Text,
    assert_equals_slow,
    text_of,
    texts_of,
    value_and_gradients,
    view_of,
)

FAMILIES = pytest.mark.parametrize("family", ["llama", "gemma2"])
HULL = KNOBS.model_copy(update={"manifold": "hull"})


def vocabulary(lm: FrozenLM) -> Tensor:
    """All token embeddings as the first layer meets them, (V, D), float64."""
    return lm.embed(torch.arange(lm.vocab_size)).double()


def unit(lm: FrozenLM) -> Tensor:
    """Mean squared length of a token embedding: what one means by D * rms**2."""
    return vocabulary(lm).square().sum(1).mean()


def slow_prompt_perplexity(lm: FrozenLM, text: Text, prompt_KD: Tensor) -> Tensor:
    costs = []
    for k in range(1, len(prompt_KD)):
        with torch.no_grad():
            p_V = lm.model(inputs_embeds=prompt_KD[None, :k].to(lm.dtype)).logits[0, -1].double().softmax(-1)
            expected_D = sum(p * embedding_D for p, embedding_D in zip(p_V, vocabulary(lm), strict=True))
        costs.append((prompt_KD[k] - expected_D).square().sum() / unit(lm))
    return torch.stack(costs).mean() if costs else torch.tensor(0.0, dtype=torch.float64)


def slow_manifold(lm: FrozenLM, text: Text, prompt_KD: Tensor) -> Tensor:
    costs = [
        min(((vector_D - embedding_D).square().sum() for embedding_D in vocabulary(lm)), key=lambda cost: cost.item())
        for vector_D in prompt_KD
    ]
    return torch.stack(costs).mean() / unit(lm)


@FAMILIES
@pytest.mark.parametrize(
    ("term", "slow"), [(prompt_perplexity, slow_prompt_perplexity), (manifold, slow_manifold)], ids=lambda f: f.__name__
)
def test_a_term_equals_a_slow_loop_from_its_formula(term, slow, family, float64_lm):
    lm = float64_lm(family)
    assert_equals_slow(term, slow, lm, texts_of(lm))


@FAMILIES
def test_the_hull_term_is_the_squared_distance_to_a_point_that_stays_put(family, float64_lm):
    lm = float64_lm(family)
    text = replace(text_of(lm, seed=17, num_vectors=5), knobs=HULL)
    loss_B, (grad_KD,) = value_and_gradients(manifold, view_of(lm, text))
    way_KD = text.prompt_KD - nearest_in_hull(text.prompt_KD, vocabulary(lm).float())
    torch.testing.assert_close(loss_B[0], (way_KD.square().sum(1).mean() / unit(lm)).float())
    torch.testing.assert_close(grad_KD, (2 * way_KD / (5 * unit(lm))).float(), rtol=1e-4, atol=1e-7)


def test_the_hull_is_nearer_than_its_nearest_corner(tiny_llama):
    texts = texts_of(tiny_llama)
    corner_B = manifold(view_of(tiny_llama, *texts))
    hull_B = manifold(view_of(tiny_llama, *(replace(text, knobs=HULL) for text in texts)))
    assert (hull_B < corner_B).all()


def test_a_vector_between_two_tokens_is_in_the_hull_and_near_no_token(tiny_llama):
    between_KD = torch.stack([
        0.3 * tiny_llama.embed(torch.tensor(a)) + 0.7 * tiny_llama.embed(torch.tensor(b))
        for a, b in ((3, 5), (7, 11), (256, 0))
    ])  # fmt: skip
    text = replace(text_of(tiny_llama, seed=17), prompt_KD=between_KD)
    near = manifold(view_of(tiny_llama, text, replace(text, knobs=HULL)))
    assert near[0] > 0.1 and near[1] < 1e-6


def project_on_hull(point_D: Tensor, corner_VD: Tensor) -> Tensor:
    """The nearest point of a hull: of the projections on the planes through some corners, the nearest inside them."""
    best_D, numbers = corner_VD[0], range(len(corner_VD))
    for chosen in chain.from_iterable(combinations(numbers, size) for size in range(1, len(corner_VD) + 1)):
        first_D, *others = corner_VD[list(chosen)]
        share_U = torch.zeros(0, dtype=torch.float64)
        if others:
            side_DU = torch.stack([corner_D - first_D for corner_D in others], 1)
            share_U = torch.linalg.lstsq(side_DU, (point_D - first_D)[:, None]).solution.squeeze(1)
        if (share_U >= 0).all() and share_U.sum() <= 1:
            candidate_D = first_D + sum(s * (c - first_D) for s, c in zip(share_U, others, strict=True))
            if (point_D - candidate_D).norm() < (point_D - best_D).norm():
                best_D = candidate_D
    return best_D


def draw_hull(seed: int) -> tuple[Tensor, Tensor]:
    """A simplex of five corners in five dimensions, and points inside it, outside it and far away."""
    generator = torch.Generator().manual_seed(seed)
    corner_VD = torch.randn(5, 5, generator=generator)
    share_KV = torch.rand(3, 5, generator=generator)
    inside_KD = (share_KV / share_KV.sum(1, keepdim=True)) @ corner_VD
    outside_KD = torch.randn(3, 5, generator=generator)
    return torch.cat([inside_KD, outside_KD, 7 * outside_KD, corner_VD[:1]]), corner_VD


@pytest.mark.parametrize("seed", range(5))
def test_frank_wolfe_ends_at_the_projection_on_the_hull(seed, monkeypatch):
    prompt_KD, corner_VD = draw_hull(seed)
    exact_KD = torch.stack([project_on_hull(point_D, corner_VD.double()) for point_D in prompt_KD.double()])
    exact_K = (prompt_KD - exact_KD).norm(dim=1).float()
    nearest_K = (prompt_KD - nearest_embedding(prompt_KD, corner_VD)).norm(dim=1)
    last_K = nearest_K
    for steps in (1, HULL_STEPS, 3000):
        monkeypatch.setattr(prompts, "HULL_STEPS", steps)
        distance_K = (prompt_KD - nearest_in_hull(prompt_KD, corner_VD)).norm(dim=1)
        assert (distance_K <= last_K + 1e-5).all() and (distance_K >= exact_K - 1e-5).all()
        last_K = distance_K
    assert (exact_K < nearest_K - 0.1).any()
    torch.testing.assert_close(last_K, exact_K, rtol=0, atol=2e-2)


def test_the_nearest_embedding_is_that_of_a_slow_search():
    prompt_KD, corner_VD = draw_hull(3)
    for point_D, nearest_D in zip(prompt_KD, nearest_embedding(prompt_KD, corner_VD), strict=True):
        assert torch.equal(nearest_D, min(corner_VD, key=lambda corner_D: float((point_D - corner_D).norm())))


@pytest.mark.parametrize("nearest", [nearest_embedding, nearest_in_hull], ids=lambda f: f.__name__)
def test_a_part_of_the_table_at_a_time_finds_the_same_and_never_holds_the_table(nearest, monkeypatch):
    generator = torch.Generator().manual_seed(4)
    embedding_VD = torch.randn(2003, 29, generator=generator).bfloat16()
    prompt_KD = torch.randn(5, 29, generator=generator)
    whole_KD = nearest(prompt_KD, embedding_VD.float() * 1.5)
    monkeypatch.setattr(prompts, "ROWS_AT_ONCE", 101)
    with LiveMemory() as live:
        parts_KD = nearest(prompt_KD, embedding_VD, 1.5)
    torch.testing.assert_close(parts_KD, whole_KD)
    assert live.peak < 4 * embedding_VD.numel() / 3


def test_what_the_model_expects_carries_no_gradient(tiny_llama):
    """So the last vector's cost moves the last vector only, and the first vector is free."""
    _, (grad_KD,) = value_and_gradients(prompt_perplexity, view_of(tiny_llama, text_of(tiny_llama, 17, num_vectors=3)))
    assert (grad_KD[0] == 0).all() and (grad_KD[1:] != 0).any(1).all()
