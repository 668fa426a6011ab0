"""Texts for the tests of context policies.

Owns: what the tests of policies and test_chances share. K soft-prompt vectors, T target tokens, D hidden size.
"""

import torch

from engine.contexts import Setting, Texts
from tests.engine.slow import draw_prompt, seeded

K, T = (2, 11, 3), (7, 5, 1)
"""Of the B = 3 texts of a pass; N = 13 positions."""

PLAIN = Setting(
    eps=0.5, temperature=2.0, guidance_alpha=0.0, forced_frac=1.0, num_passes=1, samples_own=False, top_k=0, min_p=0.0,
    clamps=False, straight_through=False,
)  # fmt: skip


def draw_texts(lm, chosen: list[Setting], rows=(0, 1, 2), *, is_learned=False, is_noisy=True) -> Texts:
    """Texts that depend on their own number alone, whatever stands beside them; noise is on every other one."""
    targets = [torch.randint(lm.vocab_size, (T[b],), generator=seeded(30 + b)) for b in rows]
    noises = [torch.randn(T[b], lm.hidden_size, generator=seeded(50 + b)) * 0.2 * lm.embed_rms for b in rows]
    return Texts(
        prompts=[draw_prompt(lm, K[b], 10 + b) for b in rows],
        targets=targets,
        settings=[chosen[b] for b in rows],
        generators=[seeded(70 + b) for b in rows],
        read_noise=[noise_TD if is_noisy and b % 2 else None for b, noise_TD in zip(rows, noises, strict=True)],
        log_temperatures=[torch.tensor([0.2 * (b + 1)], requires_grad=True) if is_learned else None for b in rows],
    )
