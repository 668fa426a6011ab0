"""Soft prompts: how one starts.

Owns: starting values. Must not know: steps, losses. K soft-prompt vectors, D hidden size, V vocabulary.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from engine.frozen_lm import FrozenLM


def vocabulary_start(lm: FrozenLM, num_vectors: int, generator: torch.Generator) -> Float[Tensor, "K D"]:
    """Embeddings of K random tokens, float32. Source: Lester et al. 2021, 2104.08691."""
    ids = torch.randint(lm.vocab_size, (num_vectors,), generator=generator)
    return lm.embed(ids.to(lm.device)).float()


def random_start(lm: FrozenLM, num_vectors: int, generator: torch.Generator) -> Float[Tensor, "K D"]:
    """Gaussian vectors at the root-mean-square size of the embedding's entries, float32."""
    noise_KD = torch.randn(num_vectors, lm.hidden_size, generator=generator)
    return noise_KD.to(lm.device) * lm.embed_rms


def mean_start(lm: FrozenLM, num_vectors: int, generator: torch.Generator) -> Float[Tensor, "K D"]:
    """The mean embedding K times, with a tenth of the random start on top so that the vectors can part."""
    mean_D = lm.embedding.weight.float().mean(0) * lm.embed_scale
    return mean_D + 0.1 * random_start(lm, num_vectors, generator)


Start = Callable[[FrozenLM, int, torch.Generator], Tensor]

STARTS: dict[str, Start] = {"vocabulary": vocabulary_start, "random": random_start, "mean": mean_start}
