"""Rewards of a whole continuation, in [0, 1].

Owns: how near one token sequence is to another. Must not know: tensors, models.
"""

from collections.abc import Callable, Sequence

from rapidfuzz.distance import Levenshtein

Reward = Callable[[Sequence[int], Sequence[int]], float]


def cut(tokens: Sequence[int], end_id: int | None) -> list[int]:
    """Tokens up to the first end-of-text token, that one included."""
    tokens = list(tokens)
    return tokens[: tokens.index(end_id) + 1] if end_id in tokens else tokens


def prefix_reward(tokens: Sequence[int], target: Sequence[int]) -> float:
    """Share of the target that the continuation repeats before its first error; 1 only if it repeats it all."""
    pairs = enumerate(zip(tokens, target, strict=False))
    right = next((t for t, (ours, theirs) in pairs if ours != theirs), min(len(tokens), len(target)))
    return right / len(target)


def accuracy_reward(tokens: Sequence[int], target: Sequence[int]) -> float:
    """Share of the target's positions at which the continuation has the same token."""
    return sum(ours == theirs for ours, theirs in zip(tokens, target, strict=False)) / len(target)


def edit_reward(tokens: Sequence[int], target: Sequence[int]) -> float:
    """`1 - Levenshtein distance / longer length`."""
    return Levenshtein.normalized_similarity(list(tokens), list(target))


REWARDS: dict[str, Reward] = {"prefix": prefix_reward, "accuracy": accuracy_reward, "edit": edit_reward}
