"""The memory that a verifying engine decodes in.

Owns: its record, its units. Must not know: who decides on its size, the engine.
"""

from dataclasses import dataclass

from orchestrator.process.memory import GIB

BLOCK = 128
"""Positions by which an engine's cache is handed out: vLLM's on a CPU, a multiple of its own on GPUs."""

JUDGED_AT_ONCE = 128
"""Texts that vLLM decodes together at most: below the 256 up to which its sums do not depend on company."""

PASS_POSITIONS = 2048
"""Positions of a pass of vLLM on a GPU: enough prompts at once, and a workspace that stays small. Assumption."""


@dataclass(frozen=True)
class Cache:
    """The verifier's key-value cache.

    Attributes:
        num_bytes: of all of it.
        positions: that it holds for certain, all texts together.
        num_texts: decoded at once, at most.
    """

    num_bytes: int
    positions: int
    num_texts: int


USUAL_CACHE = Cache(GIB, 2**20, JUDGED_AT_ONCE)
"""Where nobody has counted: what a small model needs, and no end to what it holds."""


def rounded(positions: int) -> int:
    """To whole blocks."""
    return -(-positions // BLOCK) * BLOCK
