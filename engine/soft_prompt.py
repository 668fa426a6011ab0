"""Soft prompts: how one starts.

Owns: starting values, the prompts a neighbour may lend. Must not know: steps, losses.

K soft-prompt vectors, T target tokens, D hidden size, V vocabulary.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from engine.correction.start import propose_start
from engine.frozen_lm import FrozenLM
from engine.recipe.sections import StartRecipe

MAX_SOLVED = 256
"""Solved prompts kept for neighbours: nearest is looked for among them at every start. Assumption."""


@dataclass
class SolvedPrompts:
    """The last prompts a solver certified, by the tokens they say; on the CPU."""

    entries: deque[tuple[list[int], Tensor]] = field(default_factory=lambda: deque(maxlen=MAX_SOLVED))

    def add(self, token_ids: list[int], prompt_KD: Tensor) -> None:
        self.entries.append((token_ids, prompt_KD))

    def nearest(self, token_ids: list[int]) -> Tensor | None:
        """The prompt of the text with the highest edit similarity in tokens; None where nothing is solved."""
        best = max(self.entries, key=lambda e: Levenshtein.normalized_similarity(e[0], token_ids), default=None)
        return best[1] if best else None


@dataclass(frozen=True)
class Origin:
    """What a start may draw on.

    Attributes:
        generator: the slot's random stream.
        target_T: the text's tokens.
        solved: neighbours' prompts.
        is_repeat: a sibling, a later attempt or a restart, which must not begin where the first one did.
        recipe: the start's own values.
    """

    num_vectors: int
    generator: torch.Generator
    target_T: Tensor
    solved: SolvedPrompts = field(default_factory=SolvedPrompts)
    is_repeat: bool = False
    recipe: StartRecipe = StartRecipe()


def vocabulary_start(lm: FrozenLM, origin: Origin) -> Float[Tensor, "K D"]:
    """Embeddings of K random tokens, float32. Source: Lester et al. 2021, 2104.08691."""
    ids = torch.randint(lm.vocab_size, (origin.num_vectors,), generator=origin.generator)
    return lm.embed(ids.to(lm.device)).float()


def random_start(lm: FrozenLM, origin: Origin) -> Float[Tensor, "K D"]:
    """Gaussian vectors at the root-mean-square size of the embedding's entries, float32."""
    noise_KD = torch.randn(origin.num_vectors, lm.hidden_size, generator=origin.generator)
    return noise_KD.to(lm.device) * lm.embed_rms


def mean_start(lm: FrozenLM, origin: Origin) -> Float[Tensor, "K D"]:
    """The mean embedding K times, with a tenth of the random start on top so that the vectors can part."""
    mean_D = lm.embedding.weight.mean(0, dtype=torch.float32) * lm.embed_scale
    return mean_D + 0.1 * random_start(lm, origin)


def target_start(lm: FrozenLM, origin: Origin) -> Float[Tensor, "K D"]:
    """Embeddings of the target's own tokens, evenly spaced over it, first and last among them where K > 1.

    A repeat gets half of a random start on top, or it would begin at the very same point.
    """
    spaced_K = torch.linspace(0, len(origin.target_T) - 1, origin.num_vectors).round().long()
    start_KD = lm.embed(origin.target_T[spaced_K.to(lm.device)]).float()
    return start_KD + 0.5 * random_start(lm, origin) if origin.is_repeat else start_KD


def neighbour_start(lm: FrozenLM, origin: Origin) -> Float[Tensor, "K D"]:
    """The prompt of the nearest text solved before, cut or filled up with the vocabulary start to K vectors.

    Only texts of recipes with this start lend. What is solved before depends on the company, and so does this start;
    the others do not.
    """
    fresh_KD = vocabulary_start(lm, origin)
    lent_KD = origin.solved.nearest(origin.target_T.tolist())
    if lent_KD is None:
        return fresh_KD
    return torch.cat([lent_KD.to(fresh_KD)[: origin.num_vectors], fresh_KD[len(lent_KD) :]])


def learned_start(lm: FrozenLM, origin: Origin) -> Float[Tensor, "K D"]:
    """What the networks of `start.folder` propose for the target; a repeat gets half of a random start on top."""
    start_KD = propose_start(lm, origin.target_T, origin.num_vectors, origin.recipe)
    return start_KD + 0.5 * random_start(lm, origin) if origin.is_repeat else start_KD


Start = Callable[[FrozenLM, Origin], Tensor]

STARTS: dict[str, Start] = {
    "vocabulary": vocabulary_start,
    "random": random_start,
    "mean": mean_start,
    "target": target_start,
    "neighbour": neighbour_start,
    "learned": learned_start,
}

BORROWING = ("neighbour",)
"""Starts that read solved prompts; those of recipes with another start are not kept."""
