"""Starts that need no network: prompts of texts solved before, and prompts trained on many texts at once.

Owns: how each is made, what making it costs. Must not know: solving a text from it, what is counted there.

K soft-prompt vectors, T target tokens, D hidden size.
"""

import gzip
import random
import re
from collections.abc import Callable
from pathlib import Path

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from engine.correction.situation import score
from engine.correction.trainer import num_vectors_for
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.slots import Attempt
from engine.soft_prompt import Origin, target_start
from engine.target import Target, make_target

RIDGE = 30.0
"""Added to the diagonal of the features' products. Assumption."""

COMMON_VECTORS = (2, 4, 7, 11)
"""Numbers of vectors that a common start is trained for; a text takes the nearest, stretched. Assumption."""

COMMON_STEPS, COMMON_BATCH, COMMON_RATE = 60, 24, 0.1
"""Of a common start's training; the rate is Adam's, in the embedding's rms entry, and falls to 0. Assumptions."""

Start = Callable[[Target, int], Tensor]


def plain_start(lm: FrozenLM, target: Target, num_vectors: int) -> Tensor:
    """(K, D): the target's own tokens, evenly spaced."""
    target_T = torch.tensor(target.token_ids, device=lm.device)
    return target_start(lm, Origin(num_vectors, torch.Generator(), target_T))


def sentences(lm: FrozenLM, corpus: Path, count: int, seed: int = 11) -> list[Target]:
    """Sentences of the training corpus, drawn at random."""
    with gzip.open(corpus, "rt", encoding="utf-8") as file:
        paragraphs = file.read().split("\n")
    draw, found = random.Random(seed), []
    while len(found) < count:
        parts = [s for s in re.split(r"(?<=[.!?;])\s+", draw.choice(paragraphs)) if 9 <= len(s) <= 218]
        target = make_target(lm.token_rule, f"train-{len(found)}", draw.choice(parts)) if parts else None
        if isinstance(target, Target) and 4 <= len(target.token_ids) <= 50:
            found.append(target)
    return found


def solved_arms(lm: FrozenLM, bank: list[Attempt]) -> dict[str, Start]:
    """Starts from solved prompts."""

    def nearest(target: Target, num_vectors: int) -> Tensor:
        ids = list(target.token_ids)
        best = max(bank, key=lambda a: Levenshtein.normalized_similarity(list(a.job.target.token_ids), ids))
        return stretched(held(best.prompt_KD), num_vectors)

    common_D = torch.cat([held(a.prompt_KD) - _plain(lm, a) for a in bank]).mean(0)
    weight = ridge(torch.cat([features(lm, a.job.target, len(a.prompt_KD)) for a in bank]),
                   torch.cat([held(a.prompt_KD) - _plain(lm, a) for a in bank]))  # fmt: skip
    return {
        "nearest of a bank": nearest,
        "common offset": lambda t, k: plain_start(lm, t, k) + common_D,
        "ridge": lambda t, k: plain_start(lm, t, k) + features(lm, t, k) @ weight,
        "ridge x 2": lambda t, k: 2 * (plain_start(lm, t, k) + features(lm, t, k) @ weight),
    }


def _plain(lm: FrozenLM, attempt: Attempt) -> Tensor:
    return plain_start(lm, attempt.job.target, len(attempt.prompt_KD))


def stretched(prompt_KD: Tensor, num_vectors: int) -> Tensor:
    """Another number of vectors, evenly spaced over those that there are."""
    return prompt_KD[torch.linspace(0, len(prompt_KD) - 1, num_vectors).round().long()]


def features(lm: FrozenLM, target: Target, num_vectors: int, parts: int = 4) -> Tensor:
    """(K, parts * D + 1): embeddings of the tokens that each vector stands for, in order, and a one."""
    ids_T = torch.tensor(target.token_ids)
    middles = (torch.arange(num_vectors * parts) + 0.5) * len(ids_T) / (num_vectors * parts)
    own = lm.embed(ids_T[middles.long().clamp_max(len(ids_T) - 1)]).float() / lm.embed_rms
    return torch.cat([own.reshape(num_vectors, -1), torch.ones(num_vectors, 1)], 1)


def ridge(features_NF: Tensor, values_ND: Tensor) -> Tensor:
    """(F, D): the linear map of least squared error, with `RIDGE` on its weights."""
    product = features_NF.T @ features_NF + RIDGE * torch.eye(features_NF.shape[1])
    return torch.linalg.solve(product, features_NF.T @ values_ND)


def common_arms(lm: FrozenLM, texts: list[Target], ratio: float) -> tuple[dict[str, Start], int]:
    """Starts common to all texts, by themselves and added to the plain one, trained through the model for several K.

    Returns:
        The arms, and the positions that their training passed.
    """
    arms: dict[str, Start] = {}
    positions = 0
    for name, has_plain in (("common, trained", False), ("plain + common, trained", True)):
        prompts: dict[int, Tensor] = {}
        for num_vectors in COMMON_VECTORS:
            fit = [t for t in texts if num_vectors_for(len(t.token_ids), ratio) == num_vectors]
            prompts[num_vectors], passed = trained_common(lm, fit, num_vectors, has_plain=has_plain)
            positions += passed

        def start(target: Target, num_vectors: int, prompts=prompts, has_plain=has_plain) -> Tensor:
            nearest = min(prompts, key=lambda k: abs(k - num_vectors))
            common_KD = stretched(prompts[nearest], num_vectors)
            return common_KD + plain_start(lm, target, num_vectors) if has_plain else common_KD

        arms[name] = start
    return arms, positions


def trained_common(
    lm: FrozenLM, texts: list[Target], num_vectors: int, *, has_plain: bool, steps: int = COMMON_STEPS
) -> tuple[Tensor, int]:
    """One prompt (K, D) that lowers the cross-entropy of all texts, and the positions that it took.

    Args:
        has_plain: whether it is added to a text's own plain start.
    """
    draw, rate, positions = random.Random(0), COMMON_RATE * lm.embed_rms, 0
    common_KD = torch.zeros(num_vectors, lm.hidden_size)
    if not has_plain:
        common_KD += lm.embedding.weight.float().mean(0) * lm.embed_scale
    common_KD.requires_grad_()
    optimizer = torch.optim.Adam([common_KD], lr=rate, betas=(0.9, 0.99))
    for step in range(steps):
        batch = draw.sample(texts, min(COMMON_BATCH, len(texts)))
        plain = [plain_start(lm, t, num_vectors) if has_plain else 0.0 for t in batch]
        ids = [torch.tensor(t.token_ids) for t in batch]
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        score(lm, [common_KD + plain_KD for plain_KD in plain], ids)[1].mean().backward()
        optimizer.step()
        positions += sum(len(ids_T) + num_vectors - 1 for ids_T in ids)
    return common_KD.detach(), positions
