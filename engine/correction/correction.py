"""A start and a corrector that belong together: what is trained, stored and used as one.

Owns: first prompts, iterated correction, what both come to on given texts. Must not know: how they are trained, files.

B texts, K soft-prompt vectors, T target tokens, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from engine.correction.proposers import PROPOSERS, Proposer
from engine.correction.situation import Situation, look
from engine.frozen_lm import FrozenLM
from engine.strict import Strict


class CorrectionShape(Strict):
    """What decides the networks."""

    corrector: Literal["none", "corrector", "step"] = Field(
        default="corrector", description="what proposes after the first prompt; step reads the gradient too"
    )
    width: int = Field(default=256, ge=8, le=4096, multiple_of=4, description="of the encoders over the text")
    layers: int = Field(default=2, ge=0, le=24, description="of the encoders; 0 is a linear map of a vector's tokens")


class Correction(nn.Module):
    """A hypothesiser, and a corrector where the shape has one."""

    def __init__(self, shape: CorrectionShape, hidden_size: int):
        super().__init__()
        self.shape = shape
        self.start = PROPOSERS["hypothesiser"](hidden_size, width=shape.width, layers=shape.layers)
        self.corrector: Proposer | None = None
        if shape.corrector != "none":
            self.corrector = PROPOSERS[shape.corrector](hidden_size, width=shape.width, layers=shape.layers)

    def first(self, lm: FrozenLM, targets: list[Tensor], num_vectors: Sequence[int]) -> list[Tensor]:
        """A first prompt for each of B targets, (K_b, D), float32."""
        return self.start.propose(lm, [Situation(t, k) for t, k in zip(targets, num_vectors, strict=True)])

    @torch.no_grad()
    def iterate(self, lm: FrozenLM, prompts: list[Tensor], targets: list[Tensor], rounds: int) -> list[list[Situation]]:
        """Correct B prompts again and again, each time from what the model says of the last.

        Returns:
            The measured prompts of round 0, as given, to `rounds`. Without a corrector, those as given alone.
        """
        needs_gradient = self.corrector is not None and self.corrector.needs == "gradient"
        found = [look(lm, prompts, targets, with_gradient=needs_gradient and rounds > 0)]
        for left in range(rounds if self.corrector else 0, 0, -1):
            assert self.corrector is not None
            proposed = self.corrector.propose(lm, found[-1])
            found.append(look(lm, proposed, targets, with_gradient=needs_gradient and left > 1))
        return found

    @torch.no_grad()
    def last_of(self, lm: FrozenLM, prompt_KD: Tensor, target_T: Tensor, rounds: int) -> Tensor:
        """What so many rounds make of a prompt, as it is: the last one's proposal is not looked at."""
        for _ in range(rounds if self.corrector else 0):
            assert self.corrector is not None
            seen = look(lm, [prompt_KD], [target_T], with_gradient=self.corrector.needs == "gradient")
            (prompt_KD,) = self.corrector.propose(lm, seen)
        return prompt_KD

    @torch.no_grad()
    def best_of(self, lm: FrozenLM, prompt_KD: Tensor, target_T: Tensor, rounds: int) -> Tensor:
        """The best prompt that so many rounds come by, the given one among them: more positions right, then margin."""
        if not rounds:
            return prompt_KD
        found = [situation for (situation,) in self.iterate(lm, [prompt_KD], [target_T], rounds)]
        best = max(found, key=lambda situation: situation.rank).prompt_KD
        assert best is not None
        return best


@dataclass(frozen=True)
class RoundFigures:
    """What the prompts of one round come to, over texts.

    Attributes:
        round: corrections before it.
        nats: mean cross-entropy of a token under teacher forcing, a text's mean counting once.
        accuracy: share of positions that are right, likewise.
        exact_frac: share of texts that greedy decoding emits whole, with no optimisation step.
    """

    round: int
    nats: float
    accuracy: float
    exact_frac: float

    def to_json(self) -> dict:
        return {name: round(value, 4) for name, value in asdict(self).items()}


@torch.no_grad()
def figures(
    lm: FrozenLM, correction: Correction, targets: list[Tensor], num_vectors: list[int], rounds: int
) -> list[RoundFigures]:
    """Figures of the first prompts and of each round of correction."""
    found = correction.iterate(lm, correction.first(lm, targets, num_vectors), targets, rounds)
    return [_figures(lm, number, situations) for number, situations in enumerate(found)]


def _figures(lm: FrozenLM, number: int, situations: list[Situation]) -> RoundFigures:
    prompts = [s.prompt_KD for s in situations if s.prompt_KD is not None]
    nats_N = lm.score_targets(prompts, [s.target_T for s in situations]).nats
    nats = [float(nats_T.mean()) for nats_T in nats_N.split([len(s.target_T) for s in situations])]
    count = len(situations)
    return RoundFigures(
        number,
        nats=sum(nats) / count,
        accuracy=sum(s.accuracy for s in situations) / count,
        exact_frac=sum(s.accuracy == 1 for s in situations) / count,
    )
