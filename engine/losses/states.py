"""Terms over last hidden states: contrast between positions, and a judge between two contexts.

Owns: what states cost. Must not know: weights, schedules, optimisers. T target tokens, D hidden size.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from engine.losses.view import View


def simctg(view: View) -> Float[Tensor, "B"]:
    """`mean over i != j of max(0, rho - cos(h_i, h_i) + cos(h_i, h_j))` over a text's states; 0 for one position.

    Source: Su et al. 2022, 2202.06417, equation 2.
    """
    return torch.stack([contrast(text.hidden_TD.float(), text.knobs.contrast_rho) for text in view.texts])


def contrast(hidden_TD: Float[Tensor, "T D"], rho: float) -> Float[Tensor, ""]:
    """SimCTG's term of one sequence of states."""
    unit_TD = torch.nn.functional.normalize(hidden_TD, dim=-1)
    cosine_TT = unit_TD @ unit_TD.T
    excess_TT = (rho - cosine_TT.diagonal()[:, None] + cosine_TT).clamp_min(0)
    num_tokens = len(hidden_TD)
    off_diagonal = ~torch.eye(num_tokens, dtype=torch.bool, device=hidden_TD.device)
    return torch.where(off_diagonal, excess_TT, 0.0).sum() / max(1, num_tokens * (num_tokens - 1))


def professor_forcing(view: View) -> Float[Tensor, "B"]:
    """A judge's mean cross-entropy, nats, at telling states on given context from states on the model's own.

    The judge, one logistic unit a text, learns to tell; the gradient that reaches the prompt is turned round, so the
    prompt learns to make the two alike. At chance the term is log 2.
    Source: Lamb et al. 2016, 1610.09038; the turned gradient: Ganin et al. 2016, 1505.07818.
    """
    per_text = []
    for text, rollout in zip(view.texts, view.rollouts(), strict=True):
        assert text.judge is not None, "professor_forcing needs a judge among the slot's parameters"
        weight_D, bias = text.judge
        given_T, own_T = (
            turned(torch.nn.functional.normalize(hidden_TD.float(), dim=-1)) @ weight_D + bias
            for hidden_TD in (text.hidden_TD, rollout.hidden_TD)
        )
        softplus = torch.nn.functional.softplus
        per_text.append((softplus(-given_T).mean() + softplus(own_T).mean()) / 2)
    return torch.stack(per_text)


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -grad


def turned(x: Tensor) -> Tensor:
    """`x` itself; its gradient comes back with the sign changed."""
    return _Turned.apply(x)  # pyright: ignore[reportReturnType]
