"""Training through the frozen model: the networks' own prompts are what they learn from.

Owns: batches, the loss, the optimiser, what a training goes on from. Must not know: files, clocks, who asks.

    targets -> first prompts -> frozen model -> loss, and what it says -> corrector -> next prompts -> ...

A round's prompts are what the round before made of its own, without a gradient between them: errors of iteration i are
the inputs of iteration i + 1. The loss of every round is the engine's own likelihood; the frozen model's weights take
no gradient. The rate is constant and what is kept is a moving mean of the weights, so that a training may end at any
step: no schedule knows its length.

B texts of a batch, K soft-prompt vectors, T target tokens.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from engine.correction.correction import Correction, CorrectionShape
from engine.correction.situation import score
from engine.frozen_lm import FrozenLM
from engine.strict import Strict

WARMUP_STEPS = 20
"""Steps over which the rate rises. Assumption."""

MEAN_STEPS = 50
"""Steps that the moving mean of the weights looks back on, at most. Assumption."""


class TrainSettings(Strict):
    """How the networks are trained."""

    shape: CorrectionShape = CorrectionShape()
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="of first weights and batches")
    rounds: int = Field(default=1, ge=0, le=8, description="corrections of each batch; 0 trains the start alone")
    batch: int = Field(default=48, ge=1, le=4096, description="texts a step")
    lr: float = Field(default=2e-3, gt=0, le=1, description="AdamW's rate")
    temperature: float = Field(default=1.0, gt=0, le=8, description="of the likelihood")
    tokens_per_vector: tuple[float, ...] = Field(
        default=(2.0, 3.0, 4.0), min_length=1, description="ratios T / K, one drawn for each batch"
    )


def num_vectors_for(num_tokens: int, tokens_per_vector: float) -> int:
    """K of a text at a ratio."""
    return max(1, math.ceil(num_tokens / tokens_per_vector))


class Trainer:
    """Trains a `Correction` step by step; two of the same settings, texts and machine walk the same way to the bit.

    Args:
        lm: the frozen model, which is left as it is.
        targets: token ids of the texts to learn from.
        settings: how.

    Attributes:
        num_steps: steps taken.
        num_positions: positions passed forward and backward through the frozen model.
    """

    def __init__(self, lm: FrozenLM, targets: list[tuple[int, ...]], settings: TrainSettings):
        if not targets:
            raise ValueError("targets: there is no text to learn from")
        self.lm, self.settings = lm, settings
        self._targets = sorted(targets, key=len)  # neighbours in length share a batch, so that little is padded
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.raw = Correction(settings.shape, lm.hidden_size).to(lm.device)
            self.averaged = Correction(settings.shape, lm.hidden_size).to(lm.device)
        self.averaged.load_state_dict(self.raw.state_dict())
        self.averaged.requires_grad_(False)
        self._optimizer = torch.optim.AdamW(self.raw.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01)
        self.num_steps = 0
        self.num_positions = 0

    def begin_with(self, correction: Correction) -> None:
        """Take over networks of the same shape, before the first step."""
        assert not self.num_steps and correction.shape == self.settings.shape
        for module in (self.raw, self.averaged):
            module.load_state_dict(correction.state_dict())

    def step(self) -> list[float]:
        """One batch: mean loss of the first prompts and of each round, nats at the temperature."""
        targets, num_vectors = self._batch()
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.lr * min(1.0, (self.num_steps + 1) / WARMUP_STEPS)
        self._optimizer.zero_grad(set_to_none=True)
        prompts, losses = self.raw.first(self.lm, targets, num_vectors), []
        for left in range(self.settings.rounds if self.raw.corrector else 0, -1, -1):
            losses.append(self._descend(prompts, targets))
            if left:
                prompts = self._correct(prompts, targets)
        torch.nn.utils.clip_grad_norm_(self.raw.parameters(), 1.0)
        self._optimizer.step()
        self._average()
        self.num_steps += 1
        positions = sum(len(t) + k - 1 for t, k in zip(targets, num_vectors, strict=True))
        self.num_positions += positions * len(losses)
        return losses

    def _batch(self) -> tuple[list[Tensor], list[int]]:
        """The texts of a step, a stretch of those sorted by length, and their K; both follow from seed and step."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.num_steps)
        size = min(self.settings.batch, len(self._targets))
        first = int(torch.randint(len(self._targets) - size + 1, (1,), generator=generator))
        ratios = self.settings.tokens_per_vector
        ratio = ratios[int(torch.randint(len(ratios), (1,), generator=generator))]
        texts = self._targets[first : first + size]
        ids_N = torch.tensor([id for ids in texts for id in ids]).to(self.lm.device)
        return list(ids_N.split([len(ids) for ids in texts])), [num_vectors_for(len(ids), ratio) for ids in texts]

    def _descend(self, prompts: list[Tensor], targets: list[Tensor]) -> float:
        """Add one round's gradient to the networks', and leave the prompts theirs."""
        for prompt_KD in prompts:
            prompt_KD.retain_grad()
        self._situations, nats_B = score(self.lm, prompts, targets, temperature=self.settings.temperature)
        loss = nats_B.mean()
        loss.backward()
        return loss.item()

    def _correct(self, prompts: list[Tensor], targets: list[Tensor]) -> list[Tensor]:
        assert self.raw.corrector is not None
        seen = [replace(s, gradient_KD=p.grad) for s, p in zip(self._situations, prompts, strict=True)]
        return self.raw.corrector.propose(self.lm, seen)

    @torch.no_grad()
    def _average(self) -> None:
        share = 1 / min(MEAN_STEPS, self.num_steps + 1)
        for kept, weight in zip(self.averaged.parameters(), self.raw.parameters(), strict=True):
            kept.lerp_(weight, share)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors that a training of the same settings and texts needs to go on from here."""
        state = {f"raw.{name}": tensor for name, tensor in self.raw.state_dict().items()}
        state |= {f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        moments: dict[Any, Any] = self._optimizer.state_dict()["state"]
        state |= {f"adam.{n}.{name}": t for n, values in moments.items() for name, t in values.items()}
        state["counts"] = torch.tensor([self.num_steps, self.num_positions])
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state of the same settings and texts."""
        for name, module in (("raw", self.raw), ("averaged", self.averaged)):
            module.load_state_dict(_below(name, state))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("adam", state).items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = tensor
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": moments})
        self.num_steps, self.num_positions = map(int, state["counts"])


def _below(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
