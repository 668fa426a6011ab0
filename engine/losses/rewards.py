"""Rewards of a whole continuation, in [0, 1].

Owns: how near one token sequence is to another. Must not know: tensors, models.
"""

from collections.abc import Callable, Sequence

from rapidfuzz.distance import Levenshtein

from engine.monitors import first_mismatch, token_accuracy

Reward = Callable[[Sequence[int], Sequence[int]], float]


def cut(tokens: Sequence[int], end_id: int | None) -> list[int]:
    """Tokens up to the first end-of-text token, that one included."""
    tokens = list(tokens)
    return tokens[: tokens.index(end_id) + 1] if end_id in tokens else tokens


def prefix_reward(tokens: Sequence[int], target: Sequence[int]) -> float:
    """Share of the target that the continuation repeats before its first error; 1 only if it repeats it all."""
    return first_mismatch(tokens, target) / len(target)


def edit_reward(tokens: Sequence[int], target: Sequence[int]) -> float:
    """`1 - Levenshtein distance / longer length`."""
    return Levenshtein.normalized_similarity(list(tokens), list(target))


REWARDS: dict[str, Reward] = {"prefix": prefix_reward, "accuracy": token_accuracy, "edit": edit_reward}
