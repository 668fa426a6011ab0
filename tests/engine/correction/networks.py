"""Situations and networks for the tests of correction.

Owns: what they share. K soft-prompt vectors, T target tokens, D hidden size.
"""

from collections.abc import Sequence

import torch

from engine.correction.correction import Correction, CorrectionShape
from engine.correction.proposers import PROPOSERS, Proposer
from engine.correction.situation import Situation, look
from engine.frozen_lm import FrozenLM
from tests.engine.slow import draw_prompt, seeded

SIZES = ((1, 1), (5, 23), (3, 1), (2, 41), (11, 13))
"""(K, T): fewer and more vectors than tokens, one of each."""


def some_targets(sizes: Sequence[tuple[int, int]] = SIZES) -> list[torch.Tensor]:
    return [torch.randint(257, (num_tokens,), generator=seeded(num_tokens)) for _, num_tokens in sizes]


def situations(lm: FrozenLM, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Situation]:
    """Measured, each alone, with gradients: every kind may look at them."""
    found = []
    for (num_vectors, _), target_T in zip(sizes, some_targets(sizes), strict=True):
        prompt_KD = draw_prompt(lm, num_vectors, seed=num_vectors).detach()
        found += look(lm, [prompt_KD], [target_T], with_gradient=True)
    return found


def shaken(module: torch.nn.Module, size: float = 0.05) -> torch.nn.Module:
    """The module with noise on all its weights, so that no layer is at zero."""
    generator = seeded(3)
    with torch.no_grad():
        for weight in module.parameters():
            weight += size * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return module


def proposer(kind: str, lm: FrozenLM, layers: int = 1) -> Proposer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return PROPOSERS[kind](lm.hidden_size, width=16, layers=layers)


def correction(lm: FrozenLM, corrector: str = "corrector", layers: int = 1) -> Correction:
    """Untrained, but not at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        shape = CorrectionShape.model_validate({"corrector": corrector, "width": 16, "layers": layers})
        made = Correction(shape, lm.hidden_size)
    shaken(made)
    return made.requires_grad_(False)
