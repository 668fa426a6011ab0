"""Free-running reading: one position at a time over a KV cache, for many soft prompts at once.

Owns: the sequential pass, gradients kept. Must not know: how the next thing to read is chosen, losses.

B texts, K soft-prompt vectors, T target tokens, D hidden size, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.decoding.reader import Reader
from engine.frozen_lm import FrozenLM

NextRead = Callable[[int, Tensor], Tensor]
"""`(t, hidden_BD) -> read_BD`: what each text reads at the place of its target token t, from the state before it."""


def trajectory(lm: FrozenLM, prompts: list[Tensor], num_tokens: int, next_read: NextRead) -> Tensor:
    """Last hidden states along self-chosen contexts, gradients kept through every step unless disabled.

    Args:
        lm: the frozen model.
        prompts: B tensors (K_b, D), float32.
        num_tokens: states asked for; the last one is not read from.
        next_read: chooses the embedding after each state; called for t = 0 ... num_tokens - 2.
    Returns:
        (B, num_tokens, D): state t predicts token t.
    """
    reader = Reader(lm, prompts)
    states = [reader.hidden_RD]
    for t in range(num_tokens - 1):
        states.append(reader.read(next_read(t, states[-1])))
    return torch.stack(states, 1)


@torch.no_grad()
def sample(
    lm: FrozenLM,
    prompts: list[Tensor],
    uniform_BT: Tensor,
    *,
    temperature: float = 1.0,
    forced: list[Tensor] | None = None,
) -> Tensor:
    """Token ids drawn from the model's own distribution, by inversion of the given uniform numbers.

    Args:
        uniform_BT: (B, T), in [0, 1); the same numbers give the same tokens, alone or in company.
        temperature: of the softmax; towards 0 this is greedy.
        forced: token ids that stand at the beginning of each text instead of drawn ones.
    Returns:
        (B, T) token ids. Nothing stops at the end-of-text token; the caller cuts there.
    """
    forced = forced or [uniform_BT.new_zeros(0, dtype=torch.long)] * len(prompts)
    chosen: list[Tensor] = []

    def next_read(t: int, hidden_BD: Tensor) -> Tensor:
        token_B = draw_tokens(lm.head.logits(hidden_BD) / temperature, uniform_BT[:, t])
        chosen.append(_force(token_B, forced, t))
        return lm.embed(chosen[-1])

    num_tokens = uniform_BT.shape[1]
    states_BTD = trajectory(lm, prompts, num_tokens, next_read)
    next_read(num_tokens - 1, states_BTD[:, -1])
    return torch.stack(chosen, 1)


@torch.no_grad()
def greedy_tokens(lm: FrozenLM, prompts: list[Tensor], num_tokens: int) -> Tensor:
    """The argmax continuation of every prompt, (B, num_tokens); nothing stops at the end-of-text token."""
    chosen: list[Tensor] = []

    def next_read(t: int, hidden_BD: Tensor) -> Tensor:
        chosen.append(lm.head.logits(hidden_BD).argmax(-1))
        return lm.embed(chosen[-1])

    states_BTD = trajectory(lm, prompts, num_tokens, next_read)
    next_read(num_tokens - 1, states_BTD[:, -1])
    return torch.stack(chosen, 1)


def draw_tokens(logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """One token of each softmax, (B,), where its cumulative probability passes the uniform number."""
    cumulative_BV = logits_BV.softmax(-1).cumsum(-1)
    threshold_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, threshold_B1, right=True).squeeze(1).clamp_max(logits_BV.shape[1] - 1)


def _force(token_B: Tensor, forced: list[Tensor], t: int) -> Tensor:
    rows = [b for b, given_F in enumerate(forced) if t < len(given_F)]
    if rows:
        token_B[rows] = torch.stack([forced[b][t] for b in rows])
    return token_B
