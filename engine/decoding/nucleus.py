"""Nucleus sampling: a draw from the smallest set of tokens that holds most of the probability.

Owns: the nucleus, the stream of random numbers. Must not know: targets, searches.

B prompts, K soft-prompt vectors, D hidden size, R running texts, t tokens emitted so far, V vocabulary.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from engine.decoding.processors import Processors
from engine.decoding.strategy import Continuation, Strategy
from engine.decoding.token_by_token import token_by_token
from engine.decoding.trajectory import draw_tokens
from engine.frozen_lm import FrozenLM


class Nucleus(Strategy):
    """Every token drawn from the nucleus of its distribution.

        p = softmax(z / temperature);  nucleus = the fewest likeliest tokens with sum of p >= top_p
        token t = draw from p restricted to the nucleus, by inversion of the uniform number u[t]

    u[0], u[1], ... are the stream of `seed`, the same for every text, so that a text is the same alone and in
    company; other continuations of a prompt come with other seeds. Towards top_p = 0, or temperature 0, it is greedy.

    Source: Holtzman et al. 2020, 1904.09751, section 3.1; warpers as in transformers.
    """

    name: Literal["nucleus"] = "nucleus"
    top_p: float = Field(default=0.9, ge=0, le=1, description="probability the nucleus holds; 0 is greedy, 1 is all")
    temperature: float = Field(default=1.0, gt=0, le=10, description="of the softmax; towards 0 greedy, above 1 flat")
    seed: int = Field(default=0, ge=0, description="names the stream of uniform numbers, shared by all texts")
    processors: Processors = Processors()

    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Score: the sum of the emitted tokens' log-probabilities; penalties, temperature and nucleus left out."""
        stream = torch.Generator().manual_seed(self.seed)

        def choose(told_Rt: Tensor, logits_RV: Tensor) -> Tensor:
            uniform_1 = torch.rand(1, generator=stream).to(lm.device)
            kept_RV = self.nucleus(told_Rt, self.processors.apply(told_Rt, logits_RV))
            return draw_tokens(kept_RV, uniform_1.expand(len(kept_RV)))

        return token_by_token(lm, prompts, max_tokens, choose)

    def nucleus(self, told_Rt: Tensor, logits_RV: Tensor) -> Tensor:
        """Logits (R, V) over the temperature, those outside the nucleus minus infinity."""
        cooled_RV = TemperatureLogitsWarper(self.temperature)(told_Rt, logits_RV)  # type: ignore[arg-type]
        return TopPLogitsWarper(self.top_p)(told_Rt, cooled_RV)  # type: ignore[arg-type]
