"""Proposers: what they look at, and the prompt they propose.

Owns: one class a kind, by name in `PROPOSERS`. Must not know: how they are trained, files.

All have one interface: `propose(lm, situations)` gives every text's next prompt, each from its own situation alone.

- `hypothesiser`: the target -> a first prompt.
- `corrector`: target, what the model says, margins, the prompt -> the next prompt.
- `step`: the same with the gradient by the prompt: a learned step (Andrychowicz et al. 2016, 1606.04474).

B texts, K soft-prompt vectors, T target tokens, D hidden size.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from engine.correction.network import NetworkShape, PromptNetwork
from engine.correction.situation import Situation
from engine.frozen_lm import FrozenLM

BASE_SCALE = 2.0
"""Factor on the target start that a hypothesiser departs from: saves 4 to 8 % of the positions by itself on the pocket
model, docs/correction.md."""

MARGIN_UNIT = 4.0
"""Logits; margins beyond two of them tell a network nothing more. Assumption."""


class Proposer(nn.Module, ABC):
    """Proposes prompts through a `PromptNetwork`.

    Attributes:
        kind: its name in `PROPOSERS`.
        needs: of a situation, beside the target: nothing, what is said, or the gradient as well.
    """

    kind: ClassVar[str]
    needs: ClassVar[str] = "nothing"

    def __init__(self, hidden_size: int, *, width: int = 256, layers: int = 2):
        super().__init__()
        self.network = PromptNetwork(
            NetworkShape(
                hidden_size=hidden_size,
                token_numbers=self.token_numbers(hidden_size),
                vector_numbers=self.vector_numbers(hidden_size),
                width=width,
                layers=layers,
            )
        )

    @classmethod
    def token_numbers(cls, hidden_size: int) -> int:
        return hidden_size

    @classmethod
    def vector_numbers(cls, hidden_size: int) -> int:
        return 0

    def propose(self, lm: FrozenLM, situations: list[Situation]) -> list[Tensor]:
        """The next prompt of B texts, (K_b, D), in the network's dtype and differentiable in its parameters."""
        tokens = [self.of_tokens(lm, situation) for situation in situations]
        vectors = [self.of_vectors(lm, situation) for situation in situations]
        changes = self.network(tokens, vectors)
        return [self.base(lm, s) + lm.embed_rms * change for s, change in zip(situations, changes, strict=True)]

    def of_tokens(self, lm: FrozenLM, situation: Situation) -> Tensor:
        """(T, token_numbers), about 1 in size."""
        return self._embedded(lm, situation.target_T)

    def of_vectors(self, lm: FrozenLM, situation: Situation) -> Tensor:
        """(K, vector_numbers), about 1 in size."""
        return torch.zeros(situation.num_vectors, 0, device=situation.target_T.device, dtype=self.dtype)

    @abstractmethod
    def base(self, lm: FrozenLM, situation: Situation) -> Tensor:
        """(K, D): what the change is added to."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        return self.network.linear.weight.dtype

    def _embedded(self, lm: FrozenLM, token_T: Tensor) -> Tensor:
        return lm.embed(token_T).to(self.dtype) / lm.embed_rms


class Hypothesiser(Proposer):
    """A first prompt from the target alone."""

    kind = "hypothesiser"

    def base(self, lm: FrozenLM, situation: Situation) -> Tensor:
        target_T = situation.target_T
        spaced_K = torch.linspace(0, len(target_T) - 1, situation.num_vectors).round().long()
        return BASE_SCALE * lm.embed(target_T[spaced_K.to(target_T.device)]).to(self.dtype)


class Corrector(Proposer):
    """The next prompt from the present one and what the model makes of it."""

    kind = "corrector"
    needs = "said"

    @classmethod
    def token_numbers(cls, hidden_size: int) -> int:
        return 2 * hidden_size + 2

    @classmethod
    def vector_numbers(cls, hidden_size: int) -> int:
        return hidden_size

    def of_tokens(self, lm: FrozenLM, situation: Situation) -> Tensor:
        said_T, margin_T = situation.said_T, situation.margin_T
        assert said_T is not None and margin_T is not None, "a corrector looks at a measured prompt"
        bounded_T = (margin_T / MARGIN_UNIT).clamp(-2, 2)
        numbers_T2 = torch.stack([bounded_T, (margin_T > 0).float()], 1).to(self.dtype)
        return torch.cat([super().of_tokens(lm, situation), self._embedded(lm, said_T), numbers_T2], 1)

    def of_vectors(self, lm: FrozenLM, situation: Situation) -> Tensor:
        return self.base(lm, situation) / lm.embed_rms

    def base(self, lm: FrozenLM, situation: Situation) -> Tensor:
        assert situation.prompt_KD is not None, "a corrector corrects a prompt"
        return situation.prompt_KD.to(self.dtype)


class LearnedStep(Corrector):
    """A corrector that reads the gradient too, at its own size for each text."""

    kind = "step"
    needs = "gradient"

    @classmethod
    def vector_numbers(cls, hidden_size: int) -> int:
        return 2 * hidden_size

    def of_vectors(self, lm: FrozenLM, situation: Situation) -> Tensor:
        gradient_KD = situation.gradient_KD
        assert gradient_KD is not None, "a learned step looks at the gradient"
        size = gradient_KD.square().mean().sqrt().clamp_min(1e-30)
        return torch.cat([super().of_vectors(lm, situation), (gradient_KD / size).to(self.dtype)], 1)


PROPOSERS: dict[str, type[Proposer]] = {kind.kind: kind for kind in (Hypothesiser, Corrector, LearnedStep)}
