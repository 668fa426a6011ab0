"""The start of a recipe that has learned networks: `start.name = "learned"`.

Owns: how a slot's first prompt comes from a folder. Must not know: slots, steps, training.

K soft-prompt vectors, D hidden size.
"""

from pathlib import Path

import torch
from torch import Tensor

from engine.correction.folder import check_digest, require_model, resident_correction
from engine.frozen_lm import FrozenLM
from engine.recipe.sections import StartRecipe


@torch.no_grad()
def propose_start(lm: FrozenLM, target_T: Tensor, num_vectors: int, start: StartRecipe) -> Tensor:
    """(K, D): the hypothesiser's prompt, after `start.corrections` rounds of correction.

    Raises:
        CorrectionError: the folder is missing, damaged, or another model's.
    """
    correction = resident_correction(Path(start.folder), lm, start.digest)
    (prompt_KD,) = correction.first(lm, [target_T], [num_vectors])
    return correction.last_of(lm, prompt_KD, target_T, start.corrections)


@torch.no_grad()
def correct_start(lm: FrozenLM, prompt_KD: Tensor, target_T: Tensor, start: StartRecipe) -> Tensor:
    """A given prompt, or the best that `start.corrections` rounds make of it; only a learned start corrects."""
    if start.name != "learned" or not start.corrections:
        return prompt_KD
    return resident_correction(Path(start.folder), lm, start.digest).best_of(lm, prompt_KD, target_T, start.corrections)


def require_start(start: StartRecipe, fingerprint: str | None = None) -> None:
    """Refuse early what cannot be a learned start; other starts always can.

    Args:
        fingerprint: of the model; None where none is loaded yet.
    Raises:
        CorrectionError: the folder is missing, was trained again since the recipe was written, or is another model's.
    """
    if start.name != "learned":
        return
    if fingerprint is None:
        check_digest(Path(start.folder), start.digest)
    else:
        require_model(Path(start.folder), fingerprint, start.digest)
