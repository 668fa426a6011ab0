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
class Belief:
    """What was mixed at one step, before a token was said.

    Attributes:
        token_ids: the tokens with the largest shares, largest first.
        shares: of those tokens, in [0, 1].
        entropy: of all shares, nats; 0 where one token was certain.
    """

    token_ids: list[int]
    shares: list[float]
    entropy: float


@dataclass(frozen=True)
class Continuation:
    """What a strategy says after one soft prompt.

    Attributes:
        token_ids: the tokens emitted; the end-of-text token, where it came, is the last one.
        score: the sum of their log-probabilities in nats, or what the strategy maximised instead.
        beliefs: one a token, of a strategy that reads mixtures of tokens; empty otherwise.
    """

    token_ids: list[int]
    score: float
    beliefs: tuple[Belief, ...] = ()


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
