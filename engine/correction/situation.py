"""What a proposer may look at: the target, a prompt, and what the frozen model says from it.

Owns: the measurement of prompts for correction. Must not know: networks, training, files.

B texts, K soft-prompt vectors, T target tokens, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from engine.frozen_lm import FrozenLM


@dataclass(frozen=True)
class Situation:
    """One text and the prompt it has so far; or several of one size, with an axis of texts before all others.

    Attributes:
        target_T: token ids.
        num_vectors: K.
        prompt_KD: float32, no gradient; None before there is one.
        said_T: the token that the model holds likeliest at each position under teacher forcing: up to the first that
            is not the target's, what greedy decoding says.
        margin_T: of the target over its best rival, logits.
        gradient_KD: of the mean cross-entropy by the prompt; None where nobody asked for it.
    """

    target_T: Tensor
    num_vectors: int
    prompt_KD: Tensor | None = None
    said_T: Tensor | None = None
    margin_T: Tensor | None = None
    gradient_KD: Tensor | None = None

    @classmethod
    def stacked(cls, situations: "Sequence[Situation]") -> "Situation":
        """Situations of texts of one T and one K as one; what the first has, all have."""
        first = situations[0]
        told = {
            field.name: torch.stack([getattr(situation, field.name) for situation in situations])
            for field in fields(cls)
            if isinstance(getattr(first, field.name), Tensor)
        }
        return cls(num_vectors=first.num_vectors, **told)

    @property
    def accuracy(self) -> float:
        """Share of positions that are right; of a measured situation."""
        assert self.margin_T is not None
        return float((self.margin_T > 0).float().mean())

    @property
    def rank(self) -> tuple[float, float]:
        """Of a measured situation; what is nearer to exact ranks higher."""
        assert self.margin_T is not None
        return self.accuracy, float(self.margin_T.min())


def score(
    lm: FrozenLM, prompts: list[Tensor], targets: list[Tensor], *, temperature: float = 1.0
) -> tuple[list[Situation], Float[Tensor, "B"]]:
    """Read B prompts under teacher forcing, once.

    Args:
        prompts: B tensors (K_b, D), float32; gradients flow into them.
        targets: B tensors (T_b,), token ids.
        temperature: of the softmax that the likelihood is read from.
    Returns:
        What each prompt says, without gradient, and each text's mean cross-entropy, nats, with one.
    """
    target_N = torch.cat(targets)
    sharpness_N = None if temperature == 1 else torch.full(target_N.shape, 1 / temperature, device=target_N.device)
    scores_N = lm.head.score(lm.read(prompts, lm.embed_targets(targets)), target_N, sharpness_N)
    lengths = [len(target_T) for target_T in targets]
    of_text_N = torch.repeat_interleave(torch.tensor(lengths)).to(target_N.device)
    per_token_N = scores_N.nll / torch.tensor(lengths, device=target_N.device)[of_text_N]
    nats_B = torch.zeros(len(targets), device=target_N.device).index_add(0, of_text_N, per_token_N)
    margin_N = scores_N.margin.detach()
    said_N = torch.where(margin_N > 0, target_N, scores_N.rival_id)
    situations = [
        Situation(target_T, len(prompt_KD), prompt_KD.detach(), said_T, margin_T)
        for prompt_KD, target_T, said_T, margin_T in zip(
            prompts, targets, said_N.split(lengths), margin_N.split(lengths), strict=True
        )
    ]
    return situations, nats_B


def look(
    lm: FrozenLM, prompts: list[Tensor], targets: list[Tensor], *, temperature: float = 1.0, with_gradient: bool = False
) -> list[Situation]:
    """Measure B prompts, for the price of a forward pass, or of a whole step where gradients are asked for."""
    if not with_gradient:
        with torch.no_grad():
            return score(lm, prompts, targets)[0]
    with torch.enable_grad():
        leaves = [prompt_KD.detach().requires_grad_() for prompt_KD in prompts]
        situations, nats_B = score(lm, leaves, targets, temperature=temperature)
        gradients = torch.autograd.grad(nats_B.sum(), leaves)
    return [replace(s, gradient_KD=g) for s, g in zip(situations, gradients, strict=True)]
