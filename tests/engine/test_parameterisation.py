"""Parameterisations: what they make of what is trained, and how a prompt is rounded for serving."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engine import parameterisation
from engine.parameterisation import PARAMETERISATIONS, serve
from engine.recipe.sections import ParameterisationRecipe
from tests.engine.live_memory import LiveMemory
from tests.engine.slow import projected_gradients, seeded
from tests.tiny import HIDDEN_SIZE

K, R = 7, 3
ALL = pytest.mark.parametrize("name", PARAMETERISATIONS)
FAMILIES = pytest.mark.parametrize("family", ["llama", "gemma2"])
SERVING = ParameterisationRecipe.model_fields["serving_dtype"].annotation.__args__


def draw_start(lm, num_vectors=K) -> Tensor:
    return torch.randn(num_vectors, lm.hidden_size, generator=seeded(5)) * lm.embed_rms


def begin(lm, name, start_KD, *, seed=1, **values):
    """Trained tensors, constant tensors, and the prompt they make."""
    recipe = ParameterisationRecipe(name=name, **values)
    trained, constant = PARAMETERISATIONS[name].start(lm, start_KD, recipe, seeded(seed))
    return trained, constant, PARAMETERISATIONS[name].prompt(lm, constant | trained)


def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors away from their start, ready for gradients."""
    return {
        name: (tensor + 0.1 * torch.randn(tensor.shape, generator=seeded(len(name)))).requires_grad_()
        for name, tensor in tensors.items()
    }


def test_every_parameterisation_a_recipe_takes_is_implemented():
    assert set(ParameterisationRecipe.model_fields["name"].annotation.__args__) == set(PARAMETERISATIONS)


@ALL
@FAMILIES
@pytest.mark.parametrize("num_vectors", [1, K])
def test_a_prompt_has_its_shape_and_every_unit_belongs_to_a_trained_tensor(name, family, num_vectors, tiny_lm):
    lm = tiny_lm(family)
    trained, constant, prompt_KD = begin(lm, name, draw_start(lm, num_vectors))
    assert prompt_KD.shape == (num_vectors, lm.hidden_size) and prompt_KD.dtype == torch.float32
    assert prompt_KD.isfinite().all()
    assert not any(tensor.requires_grad for tensor in (trained | constant).values())
    assert not trained.keys() & constant.keys()
    units = PARAMETERISATIONS[name].units(lm)
    assert units.keys() == trained.keys() and all(unit > 0 for unit in units.values())


@pytest.mark.parametrize(
    ("name", "values"),
    [("direct", {}), ("mlp", {}), ("mlp", {"width": 0.001}), ("low_rank", {"rank": K - 1}), ("low_rank", {"rank": 19})],
    ids=str,
)
@FAMILIES
@pytest.mark.parametrize("num_vectors", [1, K])
def test_a_start_makes_the_prompt_it_is_given(name, values, family, num_vectors, tiny_lm):
    # K vectors less their mean span K - 1 dimensions, so that rank is enough beside the bias.
    lm = tiny_lm(family)
    start_KD = draw_start(lm, num_vectors)
    _, _, prompt_KD = begin(lm, name, start_KD, **values)
    torch.testing.assert_close(prompt_KD, start_KD, rtol=0, atol=1e-5 * lm.embed_rms)


@pytest.mark.parametrize("rank", [1, R, K - 2])
def test_a_low_rank_start_is_the_nearest_of_its_rank(rank, tiny_llama):
    start_KD = draw_start(tiny_llama)
    trained, _, prompt_KD = begin(tiny_llama, "low_rank", start_KD, rank=rank)
    centred_KD = start_KD - start_KD.mean(0)
    # Eckart and Young: what a truncated singular value decomposition leaves out is the sum of the small squares.
    left_out = torch.linalg.svdvals(centred_KD)[rank:].square().sum()
    torch.testing.assert_close((prompt_KD - start_KD).square().sum(), left_out, rtol=1e-4, atol=0)
    assert trained["z"].shape == (K, rank) and trained["w"].shape == (rank, HIDDEN_SIZE)
    assert torch.linalg.matrix_rank(prompt_KD - prompt_KD.mean(0)) == rank


@FAMILIES
def test_a_convex_start_is_near_to_token_embeddings(family, tiny_lm):
    lm = tiny_lm(family)
    start_KD = lm.embed(torch.randint(lm.vocab_size, (K,), generator=seeded(3))).float()
    far, near = (
        ((begin(lm, "convex", start_KD, sharpness=sharpness)[2] - start_KD).norm() / start_KD.norm()).item()
        for sharpness in (5.0, ParameterisationRecipe().sharpness)
    )
    assert near < 1e-3 < 0.1 < far < 1


def slow_prompt(lm, name: str, p: dict[str, Tensor], constant: dict[str, Tensor]) -> Tensor:
    """The formula, an entry at a time."""
    rows = []
    for k in range(K):
        if name == "direct":
            rows.append(p["prompt"][k])
        elif name == "mlp":
            hidden_H = torch.stack(
                [torch.tanh(p["input"][k] @ p["w1"][:, h] + p["b1"][h]) for h in range(len(p["b1"]))]
            )
            outer_D = torch.stack([hidden_H @ p["w2"][:, d] + p["b2"][d] for d in range(HIDDEN_SIZE)])
            rows.append(constant["anchor"][k] + lm.embed_rms * outer_D)
        elif name == "low_rank":
            rows.append(p["b"] + sum(p["z"][k, r] * p["w"][r] for r in range(len(p["w"]))))
        else:
            weight_V = p["mixture"][k].exp() / p["mixture"][k].exp().sum()
            rows.append(sum(weight_V[v] * lm.embed(torch.tensor(v)) for v in range(lm.vocab_size)))
    return torch.stack(rows)


@ALL
@FAMILIES
def test_a_prompt_and_its_gradient_are_those_of_the_formula(name, family, tiny_lm):
    lm = tiny_lm(family)
    trained, constant, _ = begin(lm, name, draw_start(lm), width=0.1, rank=R)
    ours, theirs = moved(trained), moved(trained)
    prompt_KD = PARAMETERISATIONS[name].prompt(lm, constant | ours)
    slow_KD = slow_prompt(lm, name, theirs, constant)
    torch.testing.assert_close(prompt_KD, slow_KD, rtol=0, atol=1e-5 * lm.embed_rms)
    grads = projected_gradients(prompt_KD, list(ours.values()))
    slow_grads = projected_gradients(slow_KD, list(theirs.values()))
    for grad, slow_grad in zip(grads, slow_grads, strict=True):
        torch.testing.assert_close(grad, slow_grad, rtol=0, atol=1e-4 * slow_grad.abs().max().item())


@ALL
@FAMILIES
def test_every_trained_tensor_moves_the_prompt_from_the_start_on(name, family, tiny_lm):
    lm = tiny_lm(family)
    trained, constant, _ = begin(lm, name, draw_start(lm), rank=R)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in trained.items()}
    prompt_KD = PARAMETERISATIONS[name].prompt(lm, constant | leaves)
    for tensor, grad in zip(trained, projected_gradients(prompt_KD, list(leaves.values())), strict=True):
        assert grad.isfinite().all() and (grad != 0).any(), tensor


def test_more_rank_than_vectors_can_fill_is_still_trained(tiny_llama):
    trained, constant, _ = begin(tiny_llama, "low_rank", draw_start(tiny_llama, 2), rank=5)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in trained.items()}
    prompt_KD = PARAMETERISATIONS["low_rank"].prompt(tiny_llama, constant | leaves)
    (grad_KR,) = projected_gradients(prompt_KD, [leaves["z"]])
    assert (grad_KR != 0).all(), "a direction that is not used yet can be"


@ALL
def test_a_unit_step_moves_a_prompt_by_about_the_size_of_an_embedding_or_less(name, tiny_lm):
    lm = tiny_lm("gemma2")
    trained, constant, prompt_KD = begin(lm, name, draw_start(lm), rank=R)
    units = PARAMETERISATIONS[name].units(lm)
    for tensor, value in trained.items():
        step = units[tensor] * torch.randn(value.shape, generator=seeded(2)).sign()
        after_KD = PARAMETERISATIONS[name].prompt(lm, constant | trained | {tensor: value + step})
        way = (after_KD - prompt_KD).square().mean().sqrt().item() / lm.embed_rms
        assert 1e-3 < way < 3, f"{tensor}: {way}"


@FAMILIES
def test_convex_prompts_lie_in_the_hull_of_the_embeddings(family, tiny_lm):
    lm = tiny_lm(family)
    rows_VD = lm.embed(torch.arange(lm.vocab_size))
    direction_nD = torch.randn(1009, lm.hidden_size, generator=seeded(7))
    for scale in (0.0, 1.0, 30.0):
        mixture_KV = torch.randn(K, lm.vocab_size, generator=seeded(11)) * scale
        prompt_KD = PARAMETERISATIONS["convex"].prompt(lm, {"mixture": mixture_KV})
        # In no direction does a prompt lie beyond the outermost embedding.
        reach_n = (rows_VD @ direction_nD.T).amax(0)
        assert (prompt_KD @ direction_nD.T <= reach_n * (1 + 1e-5)).all()
        if scale == 0:
            torch.testing.assert_close(prompt_KD, rows_VD.mean(0).repeat(K, 1), rtol=0, atol=1e-5 * lm.embed_rms)
    # A mixture of one token is that token.
    hot_KV = torch.full((K, lm.vocab_size), -1e4)
    hot_KV[torch.arange(K), torch.arange(K) * 31] = 0.0
    prompt_KD = PARAMETERISATIONS["convex"].prompt(lm, {"mixture": hot_KV})
    torch.testing.assert_close(prompt_KD, rows_VD[torch.arange(K) * 31], rtol=1e-6, atol=0)


@ALL
def test_what_a_start_draws_follows_its_random_stream_alone(name, tiny_llama):
    before = torch.random.get_rng_state()
    first, again, other = (begin(tiny_llama, name, draw_start(tiny_llama, 2), seed=s, rank=5)[0] for s in (1, 1, 2))
    assert all(torch.equal(first[tensor], again[tensor]) for tensor in first)
    draws = any(not torch.equal(first[tensor], other[tensor]) for tensor in first)
    assert draws == (name in ("mlp", "low_rank"))
    assert torch.equal(torch.random.get_rng_state(), before)


# Serving.


def slow_serve(prompt_KD: Tensor, dtype: str) -> Tensor:
    if dtype == "float32":
        return prompt_KD
    if dtype == "bfloat16":
        # Half of the last kept bit is added, and a tie goes to the even one: the upper 16 bits are what is left.
        raw = prompt_KD.view(torch.int32)
        return ((raw + 0x7FFF + ((raw >> 16) & 1)) & -0x10000).view(torch.float32)
    if dtype == "float16":
        return torch.from_numpy(prompt_KD.numpy().astype(np.float16).astype(np.float32))
    rows = []
    for row_D in prompt_KD.numpy():
        scale = np.float32(np.abs(row_D).max()) / np.float32(127)
        rows.append(np.rint(row_D / scale).astype(np.int8).astype(np.float32) * scale)
    return torch.from_numpy(np.stack(rows))


@pytest.mark.parametrize("dtype", SERVING)
@pytest.mark.parametrize("size", [0.02, 1.0, 30.0])
def test_serving_rounds_as_the_dtype_does(dtype, size):
    prompt_KD = torch.randn(211, HIDDEN_SIZE, generator=seeded(13)) * size
    served_KD = serve(prompt_KD, dtype)
    assert served_KD.dtype == torch.float32
    # Equal numbers are equal bits, but for int8's zero, which keeps its sign here.
    assert torch.equal(served_KD, slow_serve(prompt_KD, dtype))
    assert torch.equal(served_KD, prompt_KD) == (dtype == "float32")


@pytest.mark.parametrize("dtype", SERVING)
def test_serving_what_was_served_changes_nothing(dtype):
    prompt_KD = torch.randn(2003, 13, generator=seeded(17))
    once_KD = serve(prompt_KD, dtype)
    assert torch.equal(serve(once_KD, dtype), once_KD)


@pytest.mark.parametrize("dtype", SERVING)
def test_serving_rounds_by_less_than_a_step_and_keeps_zero(dtype):
    prompt_KD = torch.randn(K, HIDDEN_SIZE, generator=seeded(19))
    prompt_KD[2], prompt_KD[3, 5] = 0.0, 0.0
    served_KD = serve(prompt_KD, dtype)
    assert (served_KD[2] == 0).all() and served_KD[3, 5] == 0
    step_K1 = {
        "float32": torch.zeros(K, 1),
        "bfloat16": prompt_KD.abs().amax(1, keepdim=True) * 2**-8,
        "float16": prompt_KD.abs().amax(1, keepdim=True) * 2**-11,
        "int8": prompt_KD.abs().amax(1, keepdim=True) / 254,
    }[dtype]
    assert ((served_KD - prompt_KD).abs() <= step_K1 * (1 + 1e-5)).all()


def test_int8_has_one_scale_a_vector_and_no_more_than_255_values():
    prompt_KD = torch.randn(K, HIDDEN_SIZE, generator=seeded(23)) * (10.0 ** torch.arange(-3, K - 3))[:, None]
    served_KD = serve(prompt_KD, "int8")
    level_KD = served_KD / (prompt_KD.abs().amax(1, keepdim=True) / 127)
    torch.testing.assert_close(level_KD, level_KD.round(), rtol=0, atol=1e-4)
    assert (level_KD.abs().amax(1).round() == 127).all()


@pytest.mark.parametrize("dtype", SERVING)
def test_the_gradient_goes_straight_through_serving(dtype):
    prompt_KD = torch.randn(K, HIDDEN_SIZE, generator=seeded(29)).requires_grad_()
    weight_KD = torch.randn(K, HIDDEN_SIZE, generator=seeded(31))
    (serve(prompt_KD, dtype) * weight_KD).sum().backward()
    assert torch.equal(prompt_KD.grad, weight_KD)
    # A function of what is served meets the rounded values, not the ones that were given.
    other_KD = prompt_KD.detach().requires_grad_()
    serve(other_KD, dtype).square().sum().backward()
    assert torch.equal(other_KD.grad, 2 * serve(prompt_KD.detach(), dtype))


@pytest.mark.parametrize("dtype", SERVING)
def test_serving_writes_into_nothing(dtype):
    prompt_KD = torch.randn(K, HIDDEN_SIZE, generator=seeded(37))
    before_KD = prompt_KD.clone()
    serve(prompt_KD, dtype)
    assert torch.equal(prompt_KD, before_KD)


def test_cosines_with_the_vocabulary_never_hold_the_table(monkeypatch):
    generator = torch.Generator().manual_seed(4)
    embedding_VD, start_KD = torch.randn(2003, 29, generator=generator).bfloat16(), torch.randn(2, 29)
    whole_KV = torch.nn.functional.cosine_similarity(start_KD[:, None], embedding_VD.float()[None], dim=-1)
    monkeypatch.setattr(parameterisation, "ROWS_AT_ONCE", 101)
    with LiveMemory() as live:
        parts_KV = parameterisation.cosines(start_KD, embedding_VD)
    torch.testing.assert_close(parts_KV, whole_KV)
    assert live.peak < 4 * embedding_VD.numel() / 3
