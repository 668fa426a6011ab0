"""What a decoding strategy is: one interface for all of them.

Owns: the record a strategy returns, the verb it has. Must not know: targets, verdicts.

B prompts, K soft-prompt vectors, D hidden size.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.strict import Strict


class DecodingError(ValueError):
    """What is asked of a decoder cannot be had; the message names setting, value and remedy."""


@dataclass(frozen=True)
class Continuation:
    """What a strategy says after one soft prompt.

    Attributes:
        token_ids: the tokens emitted; the end-of-text token, where it came, is the last one.
        score: the sum of their log-probabilities in nats, or what the strategy maximised instead.
    """

    token_ids: list[int]
    score: float


class Strategy(Strict, ABC):
    """A way of choosing tokens; its fields are its settings."""

    @abstractmethod
    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Continue every soft prompt; alone or in company, a prompt gets the same text.

        Args:
            lm: the frozen model.
            prompts: B soft prompts (K_b, D), any mixture of lengths.
            max_tokens: most tokens to emit for each, >= 1.
        Returns:
            B continuations, in order.
        Raises:
            DecodingError: the settings cannot be met.
        """
