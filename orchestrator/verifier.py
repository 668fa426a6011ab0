"""What a verifier is: the record it receives, the verdict it gives, and what it refuses to judge.

Owns: the contract every verifying engine meets. Must not know: the solver, its losses, its certificate.

K soft-prompt vectors, T target tokens, D hidden size.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

SLACK_TOKENS = 8
"""Tokens decoded past the target's length, so that a text that does not stop is told from one that does."""


@dataclass(frozen=True)
class Candidate:
    """A soft prompt and the tokens it is claimed to say.

    Attributes:
        id: the text's id.
        prompt_KD: (K, D) float32.
        token_ids: T target tokens, the end-of-text token last where stopping is part of the target.
    """

    id: str
    prompt_KD: np.ndarray
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """What an engine said when it decoded freely and greedily.

    Attributes:
        exact: the tokens emitted are the target's, all of them and in order, and nothing else.
        generated_ids: the tokens emitted; empty where the candidate was refused.
        first_mismatch: first position that differs; T if none.
        engine: `vllm` or `hf`, with its version.
        engine_dtype: numerics of the engine.
        refusal: why the candidate was not decoded, or None.
    """

    id: str
    exact: bool
    generated_ids: tuple[int, ...]
    first_mismatch: int
    engine: str
    engine_dtype: str
    refusal: str | None = None


class Verifier(Protocol):
    """An engine that decodes candidates and is alone in saying `exact`."""

    engine: str
    engine_dtype: str
    hidden_size: int
    context: int

    def judge(self, candidates: list[Candidate]) -> list[Verdict]:
        """One verdict for each candidate, in order. A candidate that cannot be decoded is refused, not raised."""
        ...


def refusal(candidate: Candidate, *, hidden_size: int, context: int) -> str | None:
    """Why a candidate must not reach the engine, or None. vLLM itself checks none of this offline."""
    prompt_KD = candidate.prompt_KD
    if prompt_KD.dtype != np.float32:
        return f"prompt dtype {prompt_KD.dtype}: must be float32"
    if prompt_KD.ndim != 2:
        return f"prompt shape {prompt_KD.shape}: must be (vectors, hidden size)"
    if len(prompt_KD) == 0:
        return "prompt has no vectors: must have at least 1"
    if prompt_KD.shape[1] != hidden_size:
        return f"prompt width {prompt_KD.shape[1]}: this model's hidden size is {hidden_size}"
    if not np.isfinite(prompt_KD).all():
        return "prompt has a non-finite value"
    if not candidate.token_ids:
        return "target has no tokens"
    if len(prompt_KD) + len(candidate.token_ids) > context:
        return f"{len(prompt_KD)} vectors and {len(candidate.token_ids)} tokens: the context holds {context}"
    return None


def max_new_tokens(candidate: Candidate, context: int) -> int:
    """Tokens to decode for a candidate: the target's and some slack, within the context."""
    return min(len(candidate.token_ids) + SLACK_TOKENS, context - len(candidate.prompt_KD))


def verdict(candidate: Candidate, generated: list[int], *, ends: bool, engine: str, engine_dtype: str) -> Verdict:
    """Compare what was emitted with the target.

    Args:
        candidate: the claim.
        generated: tokens emitted, the end-of-text token included where it was reached.
        ends: whether stopping is part of the target; if not, what follows its last token is not judged.
        engine: name and version of the engine.
        engine_dtype: its numerics.
    """
    target = candidate.token_ids
    judged = tuple(generated) if ends else tuple(generated[: len(target)])
    pairs = zip(judged, target, strict=False)
    first_mismatch = next((t for t, (said, asked) in enumerate(pairs) if said != asked), min(len(judged), len(target)))
    return Verdict(candidate.id, judged == target, judged, first_mismatch, engine, engine_dtype)


def refused(candidate: Candidate, reason: str, *, engine: str, engine_dtype: str) -> Verdict:
    """The verdict on a candidate that was not decoded."""
    return Verdict(candidate.id, False, (), 0, engine, engine_dtype, refusal=reason)
