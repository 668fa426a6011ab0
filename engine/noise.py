"""Gaussian noise on what is trained and on what is read, drawn from a slot's own stream.

Owns: its scale and drawing. Must not know: policies, losses. K soft-prompt vectors, T target tokens, D hidden size.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def gaussian_noise(
    num_rows: int, size: int, *, sigma: float, is_sampled: bool, generator: torch.Generator
) -> Float[Tensor, "R D"]:
    """`sigma * g`, or with a sampled scale `sigma * s * g`: g standard Gaussian, s one N(0, 1) draw for all rows.

    Args:
        num_rows: vectors.
        size: entries of each.
        sigma: standard deviation, in the unit of what it is added to.
        is_sampled: draw the scale as well.
        generator: the slot's stream, on the CPU.
    Source: sampled scale after the sigma-VAE of LatentLM, Sun et al. 2024, 2412.08635, section 2.
    """
    scale = torch.randn((), generator=generator) if is_sampled else torch.ones(())
    return sigma * scale * torch.randn(num_rows, size, generator=generator)
