"""The chunked head against a plain matrix product over the whole vocabulary."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine import head as head_module
from engine.head import Head

N, D, V = 13, 7, 31
VARIANTS = {
    "plain": {},
    "bias": {"bias_V": torch.linspace(-1, 1, V)},
    "scale": {"scale": 0.25},
    "softcap": {"softcap": 3.0},
    "all of them": {"bias_V": torch.linspace(-1, 1, V), "scale": 2.0, "softcap": 5.0},
}
DIFFERENTIABLE = ("log_sum_exp", "target_logit", "rival_logit")


def draw(num_rows: int = N, vocab_size: int = V, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(2)
    weight_VD = torch.randn(vocab_size, D, generator=generator).to(dtype)
    hidden_ND = torch.randn(num_rows, D, generator=generator).to(dtype).requires_grad_()
    return weight_VD, hidden_ND, torch.randint(vocab_size, (num_rows,), generator=generator)


def naive_scores(head: Head, hidden_ND: torch.Tensor, target_N: torch.Tensor) -> dict[str, torch.Tensor]:
    """From the definition, in float64, one position after the other."""
    columns = {name: [] for name in (*DIFFERENTIABLE, "rival_id")}
    for hidden_D, target in zip(hidden_ND.double(), target_N.tolist(), strict=True):
        logits_V = head.weight_VD.double() @ hidden_D
        logits_V = head.scale * (logits_V if head.bias_V is None else logits_V + head.bias_V.double())
        if head.softcap is not None:
            logits_V = head.softcap * (logits_V / head.softcap).tanh()
        rivals = [v for v in range(len(logits_V)) if v != target]
        rival = max(rivals, key=lambda v: logits_V[v].item())
        columns["log_sum_exp"].append(logits_V.exp().sum().log())
        columns["target_logit"].append(logits_V[target])
        columns["rival_logit"].append(logits_V[rival])
        columns["rival_id"].append(torch.tensor(rival))
    return {name: torch.stack(column) for name, column in columns.items()}


@pytest.mark.parametrize("rows", [1, 5, N, 100], ids=lambda rows: f"{rows} rows a chunk")
@pytest.mark.parametrize("variant", VARIANTS)
def test_chunked_scores_and_gradients_equal_the_full_product(variant, rows, monkeypatch):
    monkeypatch.setattr(head_module, "CHUNK_ELEMENTS", rows * V + 1)
    weight_VD, hidden_ND, target_N = draw()
    head = Head(weight_VD, **VARIANTS[variant])
    ours, naive = head.score(hidden_ND, target_N), naive_scores(head, hidden_ND, target_N)
    assert torch.equal(ours.rival_id, naive["rival_id"])
    pull_N = torch.linspace(-1, 1, N)
    for name in DIFFERENTIABLE:
        torch.testing.assert_close(getattr(ours, name), naive[name].float())
        (grad_ND,) = torch.autograd.grad(getattr(ours, name), hidden_ND, pull_N, retain_graph=True)
        (naive_grad_ND,) = torch.autograd.grad(naive[name], hidden_ND, pull_N.double(), retain_graph=True)
        torch.testing.assert_close(grad_ND, naive_grad_ND.float())


def test_gradients_of_all_columns_add_up():
    weight_VD, hidden_ND, target_N = draw()
    head = Head(weight_VD)
    ours, naive = head.score(hidden_ND, target_N), naive_scores(head, hidden_ND, target_N)
    factors = dict(zip(DIFFERENTIABLE, (2.0, -3.0, 5.0), strict=True))
    sums = [sum((f * getattr(ours, name)).sum() for name, f in factors.items())]
    sums.append(sum((f * naive[name]).sum() for name, f in factors.items()))
    (grad_ND,), (naive_grad_ND,) = (torch.autograd.grad(total, hidden_ND) for total in sums)
    torch.testing.assert_close(grad_ND, naive_grad_ND.float())


def test_bfloat16_scores_stay_near_the_exact_ones():
    weight_VD, hidden_ND, target_N = draw(dtype=torch.bfloat16)
    head = Head(weight_VD)
    ours, naive = head.score(hidden_ND, target_N), naive_scores(head, hidden_ND, target_N)
    for name in DIFFERENTIABLE:
        assert getattr(ours, name).dtype == torch.float32
        torch.testing.assert_close(getattr(ours, name), naive[name].float(), rtol=2**-7, atol=2**-7)
        (grad_ND,) = torch.autograd.grad(getattr(ours, name).sum(), hidden_ND, retain_graph=True)
        (naive_grad_ND,) = torch.autograd.grad(naive[name].sum(), hidden_ND, retain_graph=True)
        torch.testing.assert_close(grad_ND, naive_grad_ND, rtol=2**-6, atol=2**-6)


def test_margin_and_nll_are_what_their_names_say():
    weight_VD, hidden_ND, target_N = draw()
    scores_N = Head(weight_VD).score(hidden_ND, target_N)
    logits_NV = hidden_ND @ weight_VD.T
    torch.testing.assert_close(scores_N.nll, torch.nn.functional.cross_entropy(logits_NV, target_N, reduction="none"))
    is_right_N = logits_NV.argmax(-1) == target_N
    assert torch.equal(scores_N.margin > 0, is_right_N)


def test_two_tokens_that_tie_have_margin_zero():
    scores_N = Head(torch.ones(V, D)).score(torch.ones(1, D), torch.tensor([3]))
    assert scores_N.margin.item() == 0


class LargestTensor(TorchDispatchMode):
    """Notes the largest number of elements any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        tensors = output if isinstance(output, (tuple, list)) else [output]
        self.elements = max([self.elements, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
        return output


def test_no_more_than_a_chunk_of_logits_is_ever_alive(monkeypatch):
    num_rows, vocab_size, chunk_rows = 211, 101, 11
    monkeypatch.setattr(head_module, "CHUNK_ELEMENTS", chunk_rows * vocab_size)
    weight_VD, hidden_ND, target_N = draw(num_rows, vocab_size)
    with LargestTensor() as largest:
        scores_N = Head(weight_VD).score(hidden_ND, target_N)
        (scores_N.nll + scores_N.rival_logit).sum().backward()
    assert largest.elements == max(chunk_rows * vocab_size, hidden_ND.numel(), weight_VD.numel())
    assert largest.elements < num_rows * vocab_size / 10


def test_a_satisfied_position_pulls_on_nothing():
    weight_VD, hidden_ND, target_N = draw()
    scores_N = Head(weight_VD).score(hidden_ND, target_N)
    wanted = scores_N.margin.mean().item()
    (wanted - scores_N.margin).clamp_min(0).sum().backward()
    is_satisfied_N = scores_N.margin >= wanted
    assert 0 < is_satisfied_N.sum() < N
    assert torch.equal(hidden_ND.grad.abs().sum(1) == 0, is_satisfied_N)
