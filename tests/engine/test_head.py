"""The chunked head against a plain matrix product over the whole vocabulary."""

import math

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


def naive_scores(
    head: Head, hidden_ND: torch.Tensor, target_N: torch.Tensor, sharpness_N: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """From the definition, in float64, one position after the other."""
    columns = {name: [] for name in (*DIFFERENTIABLE, "nll", "rival_id", "nats")}
    sharpness = [1.0] * len(hidden_ND) if sharpness_N is None else sharpness_N.tolist()
    for hidden_D, target, sharp in zip(hidden_ND.double(), target_N.tolist(), sharpness, strict=True):
        logits_V = head.weight_VD.double() @ hidden_D
        logits_V = head.scale * (logits_V if head.bias_V is None else logits_V + head.bias_V.double())
        if head.softcap is not None:
            logits_V = head.softcap * (logits_V / head.softcap).tanh()
        rivals = [v for v in range(len(logits_V)) if v != target]
        rival = max(rivals, key=lambda v: logits_V[v].item())
        columns["log_sum_exp"].append((logits_V * sharp).exp().sum().log())
        columns["nll"].append(-(logits_V * sharp).log_softmax(0)[target])
        columns["nats"].append(-logits_V.log_softmax(0)[target].detach())
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


@pytest.mark.parametrize("rows", [1, 5, 100], ids=lambda rows: f"{rows} rows a chunk")
@pytest.mark.parametrize("variant", VARIANTS)
def test_likelihoods_are_read_at_their_temperatures_and_margins_are_not(variant, rows, monkeypatch):
    monkeypatch.setattr(head_module, "CHUNK_ELEMENTS", rows * V + 1)
    weight_VD, hidden_ND, target_N = draw()
    head, sharpness_N = Head(weight_VD, **VARIANTS[variant]), torch.linspace(0.25, 4, N)
    ours = head.score(hidden_ND, target_N, sharpness_N)
    naive = naive_scores(head, hidden_ND, target_N, sharpness_N)
    torch.testing.assert_close(ours.nats, naive["nats"].float())
    assert torch.equal(ours.margin, head.score(hidden_ND, target_N).margin) and not ours.nats.requires_grad
    pull_N = torch.linspace(-1, 1, N)
    for name in (*DIFFERENTIABLE, "nll"):
        torch.testing.assert_close(getattr(ours, name), naive[name].float())
        (grad_ND,) = torch.autograd.grad(getattr(ours, name), hidden_ND, pull_N, retain_graph=True)
        (naive_grad_ND,) = torch.autograd.grad(naive[name], hidden_ND, pull_N.double(), retain_graph=True)
        torch.testing.assert_close(grad_ND, naive_grad_ND.float())
    log_p_NV = (head.logits(hidden_ND) * sharpness_N[:, None]).log_softmax(-1)
    torch.testing.assert_close(head.entropy(hidden_ND, sharpness_N), -(log_p_NV.exp() * log_p_NV).sum(-1))


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


def likely_states(weight_VD: torch.Tensor, target_N: torch.Tensor, p: float, head: Head) -> torch.Tensor:
    """States along their targets' weights, as long as it takes for the target to be as likely as `p`."""
    direction_ND = weight_VD[target_N].double()
    short_N, long_N = torch.zeros(len(target_N)), torch.full((len(target_N),), 500.0)
    for _ in range(40):
        length_N = (short_N + long_N) / 2
        nll_N = head.score((length_N[:, None] * direction_ND).to(weight_VD.dtype), target_N).nll
        is_short_N = nll_N > -math.log(p)
        short_N, long_N = torch.where(is_short_N, length_N, short_N), torch.where(is_short_N, long_N, length_N)
    return (long_N[:, None] * direction_ND).to(weight_VD.dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("variant", ["plain", "bias", "scale"])
@pytest.mark.parametrize("p", [0.5, 0.97, 0.994, 0.999, 0.9999])
def test_the_gradient_of_a_likely_target_does_not_cancel_in_half_precision(p, variant, dtype):
    weight_VD, _, target_N = draw()
    # Rows of one length: a state along a row of them favours that token.
    weight_VD = torch.nn.functional.normalize(weight_VD, dim=1).to(dtype)
    head = Head(weight_VD, **VARIANTS[variant])
    hidden_ND = likely_states(weight_VD, target_N, p, head)
    ours, naive = head.score(hidden_ND, target_N), naive_scores(head, hidden_ND, target_N)
    naive_nll_N = naive["log_sum_exp"] - naive["target_logit"]
    # Half precision cannot hold every likelihood; none is far from the one asked for.
    assert (naive_nll_N.exp() - 1).min() > 0.2 * (1 / p - 1) and (naive_nll_N.exp() - 1).max() < 5 * (1 / p - 1)
    (grad_ND,), (naive_grad_ND,) = (
        torch.autograd.grad((1e3 * nll_N).sum(), hidden_ND) for nll_N in (ours.nll, naive_nll_N)
    )
    error_N = (grad_ND - naive_grad_ND).double().norm(dim=1) / naive_grad_ND.double().norm(dim=1)
    assert error_N.max() < 0.02


def test_half_precision_logits_do_not_lie_on_a_coarse_grid():
    """Between 16 and 32 bfloat16 knows no number between multiples of 0.125."""
    generator = torch.Generator().manual_seed(3)
    weight_VD = torch.randn(211, 64, generator=generator).bfloat16()
    hidden_ND = (3 * torch.randn(N, 64, generator=generator)).bfloat16().requires_grad_()
    for logits_NV in (Head(weight_VD).logits(hidden_ND), Head(weight_VD).token_logits(hidden_ND, torch.arange(211))):
        exact_NV = hidden_ND.double() @ weight_VD.double().T
        torch.testing.assert_close(logits_NV, exact_NV.float(), rtol=1e-5, atol=1e-5)
        is_large_NV = logits_NV.abs() > 16
        assert is_large_NV.sum() > 100 and (logits_NV[is_large_NV] % 0.125 != 0).float().mean() > 0.9
        (grad_ND,) = torch.autograd.grad(logits_NV.sin().sum(), hidden_ND)
        (exact_grad_ND,) = torch.autograd.grad(exact_NV.sin().sum(), hidden_ND)
        torch.testing.assert_close(grad_ND, exact_grad_ND, rtol=2**-6, atol=0.1)


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


@pytest.mark.parametrize("rows", [3, 100], ids=lambda rows: f"{rows} rows a chunk")
def test_logits_of_the_last_chunk_are_kept_for_backward_and_right_where_few_positions_pull(rows, monkeypatch):
    monkeypatch.setattr(head_module, "CHUNK_ELEMENTS", rows * V)
    weight_VD, hidden_ND, target_N = draw()
    computed, logits = [], Head.logits
    monkeypatch.setattr(
        Head, "logits", lambda head, hidden_MD: computed.append(len(hidden_MD)) or logits(head, hidden_MD)
    )
    pulls_N = (torch.arange(N) % 2).float()
    scores = Head(weight_VD).score(hidden_ND, target_N)
    last = computed[-1]
    (ours_ND,) = torch.autograd.grad((scores.nll * pulls_N).sum(), hidden_ND)
    naive_N = torch.nn.functional.cross_entropy(hidden_ND @ weight_VD.T, target_N, reduction="none")
    (naive_ND,) = torch.autograd.grad((naive_N * pulls_N).sum(), hidden_ND)
    torch.testing.assert_close(ours_ND, naive_ND)
    assert sum(computed) == N + int(pulls_N[: N - last].sum())
