"""How hard a text looks before anything is optimised: what a corpus can be put in order by.

Owns: the measures. Must not know: queues, corpora. T target tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence

import torch

from engine.frozen_lm import FrozenLM
from engine.target import Target

BATCH = 32
"""Texts in a pass. Assumption: small beside what a solver's table holds."""

Difficulty = Callable[[FrozenLM, Sequence[Target]], list[float]]


def length_difficulty(lm: FrozenLM, targets: Sequence[Target]) -> list[float]:
    """Target tokens."""
    return [float(len(target.token_ids)) for target in targets]


@torch.no_grad()
def surprisal_difficulty(lm: FrozenLM, targets: Sequence[Target]) -> list[float]:
    """Nats the frozen model needs for each text by itself; the first token, which nothing predicts, counts log V.

    Source: what limits cramming is this, not the length: Kuratov et al. 2025, 2502.13063.
    """
    nats = []
    for first in range(0, len(targets), BATCH):
        batch = [torch.tensor(target.token_ids, device=lm.device) for target in targets[first : first + BATCH]]
        told = [tokens_T for tokens_T in batch if len(tokens_T) > 1]
        predicted = iter(())
        if told:
            heads = [lm.embed(tokens_T[:1]).float() for tokens_T in told]
            rest = [tokens_T[1:] for tokens_T in told]
            predicted = iter(lm.score_targets(heads, rest).nll.split([len(tokens_T) for tokens_T in rest]))
        nats += [math.log(lm.vocab_size) + (float(next(predicted).sum()) if len(t) > 1 else 0.0) for t in batch]
    return nats


DIFFICULTIES: dict[str, Difficulty] = {"length": length_difficulty, "surprisal": surprisal_difficulty}
