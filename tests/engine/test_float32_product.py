"""Products with a half-precision weight against the same product in float64, over several blocks."""

import pytest
import torch

from engine import float32_product
from engine.float32_product import from_states, to_states

N, D, V = 5, 7, 31
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def draw(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((N, D), (N, V), (V, D))
    hidden_ND, pull_NV, weight_VD = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return hidden_ND, pull_NV, weight_VD


@DTYPES
@pytest.mark.parametrize("rows", [1, 3, V, 100], ids=lambda rows: f"{rows} rows a block")
def test_products_are_float32_and_as_exact_as_their_factors(rows, dtype, monkeypatch):
    monkeypatch.setattr(float32_product, "BLOCK_ELEMENTS", rows * D + 1)
    hidden_ND, pull_NV, weight_VD = draw(dtype)
    hidden_ND.requires_grad_()
    product_NV = from_states(hidden_ND, weight_VD)
    assert product_NV.dtype == torch.float32
    torch.testing.assert_close(product_NV.double(), hidden_ND.double() @ weight_VD.double().T, rtol=1e-5, atol=1e-5)
    back_ND = to_states(pull_NV.float(), weight_VD)
    assert back_ND.dtype == torch.float32
    torch.testing.assert_close(back_ND.double(), pull_NV.double() @ weight_VD.double(), rtol=1e-5, atol=1e-5)
    (grad_ND,) = torch.autograd.grad(product_NV, hidden_ND, pull_NV.float())
    assert torch.equal(grad_ND, back_ND.to(dtype))


def test_no_float32_copy_of_the_weight_waits_for_the_way_back():
    hidden_ND, _, weight_VD = draw(torch.bfloat16)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        from_states(hidden_ND.requires_grad_(), weight_VD)
    assert [(t.dtype, t.untyped_storage().data_ptr()) for t in kept] == [
        (torch.bfloat16, weight_VD.untyped_storage().data_ptr())
    ]
