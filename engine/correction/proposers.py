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
        """The next prompt of B texts, (K_b, D), in the network's dtype and differentiable in its parameters.

        Texts of one size go through the network together.
        """
        alike: dict[tuple[int, int], list[int]] = {}
        for number, situation in enumerate(situations):
            alike.setdefault((len(situation.target_T), situation.num_vectors), []).append(number)
        proposed: dict[int, Tensor] = {}
        for numbers in alike.values():
            together = Situation.stacked([situations[number] for number in numbers])
            change_BKD = self.network(self.of_tokens(lm, together), self.of_vectors(lm, together))
            prompt_BKD = self.base(lm, together) + lm.embed_rms * change_BKD
            proposed.update(zip(numbers, prompt_BKD.unbind(), strict=True))
        return [proposed[number] for number in range(len(situations))]

    def of_tokens(self, lm: FrozenLM, situation: Situation) -> Tensor:
        """(B, T, token_numbers), about 1 in size."""
        return self._embedded(lm, situation.target_T)

    def of_vectors(self, lm: FrozenLM, situation: Situation) -> Tensor:
        """(B, K, vector_numbers), about 1 in size."""
        target_BT = situation.target_T
        return torch.zeros(len(target_BT), situation.num_vectors, 0, device=target_BT.device, dtype=self.dtype)

    @abstractmethod
    def base(self, lm: FrozenLM, situation: Situation) -> Tensor:
        """(B, K, D): what the change is added to."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        return self.network.linear.weight.dtype

    def _embedded(self, lm: FrozenLM, token_BT: Tensor) -> Tensor:
        return lm.embed(token_BT).to(self.dtype) / lm.embed_rms


class Hypothesiser(Proposer):
    """A first prompt from the target alone."""

    kind = "hypothesiser"

    def base(self, lm: FrozenLM, situation: Situation) -> Tensor:
        target_BT = situation.target_T
        spaced_K = torch.linspace(0, target_BT.shape[1] - 1, situation.num_vectors).round().long()
        return BASE_SCALE * lm.embed(target_BT[:, spaced_K.to(target_BT.device)]).to(self.dtype)


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
        said_BT, margin_BT = situation.said_T, situation.margin_T
        assert said_BT is not None and margin_BT is not None, "a corrector looks at a measured prompt"
        bounded_BT = (margin_BT / MARGIN_UNIT).clamp(-2, 2)
        numbers_BT2 = torch.stack([bounded_BT, (margin_BT > 0).float()], -1).to(self.dtype)
        return torch.cat([super().of_tokens(lm, situation), self._embedded(lm, said_BT), numbers_BT2], -1)

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
        gradient_BKD = situation.gradient_KD
        assert gradient_BKD is not None, "a learned step looks at the gradient"
        size_B11 = gradient_BKD.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-30)
        return torch.cat([super().of_vectors(lm, situation), (gradient_BKD / size_B11).to(self.dtype)], -1)


PROPOSERS: dict[str, type[Proposer]] = {kind.kind: kind for kind in (Hypothesiser, Corrector, LearnedStep)}
