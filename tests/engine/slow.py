"""Reading the slow way: one text at a time, everything read again for every token, no cache and no padding.

Owns: what the tests of contexts and trajectories share. Must not know: policies.

K soft-prompt vectors, T target tokens, D hidden size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_prompt(lm: FrozenLM, num_vectors: int, seed: int) -> Tensor:
    """A random soft prompt in the model's dtype, ready for gradients."""
    prompt_KD = torch.randn(num_vectors, lm.hidden_size, generator=seeded(seed)) * lm.embed_rms
    return prompt_KD.to(lm.dtype).requires_grad_()


def slow_walk(
    lm: FrozenLM, prompt_KD: Tensor, num_tokens: int, next_read: Callable[[int, Tensor], Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """States that predict the tokens, (T, D), and what was read at the places of all tokens but the last."""
    states: list[Tensor] = []
    reads: list[Tensor] = []
    for t in range(num_tokens):
        read_SD = torch.cat([prompt_KD, *(read_D[None] for read_D in reads)])
        states.append(lm.model.base_model(inputs_embeds=read_SD[None], use_cache=False).last_hidden_state[0, -1])
        if t + 1 < num_tokens:
            reads.append(next_read(t, states[-1]).to(lm.dtype))
    return torch.stack(states), reads


def projected_gradients(states_ND: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Gradients by the leaves of a fixed random projection of all states, zeros where there are none."""
    weight_ND = torch.randn(states_ND.shape, generator=seeded(3)).to(states_ND.dtype)
    grads = torch.autograd.grad((states_ND * weight_ND).sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, grads, strict=True)]


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Equal but for a share of the largest entry."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * theirs.abs().max().item() + 1e-12)
