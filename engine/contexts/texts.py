"""Texts as a context policy meets them.

Owns: what a policy is given. Must not know: the policies.

B texts, K soft-prompt vectors, T target tokens, D hidden size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from engine.recipe.sections import ContextRecipe
from engine.schedules import build_schedule


class Setting(NamedTuple):
    """One text's values of the policy at one step; what they mean stands in `ContextRecipe`."""

    eps: float
    temperature: float
    guidance_alpha: float
    forced_frac: float
    num_passes: int
    samples_own: bool
    top_k: int
    min_p: float
    clamps: bool
    straight_through: bool


def setting_at(context: ContextRecipe, clock: float, max_steps: int) -> Setting:
    """Schedules evaluated at a slot's clock."""
    values = (context.eps, context.temperature, context.guidance_alpha, context.forced_frac)
    eps, temperature, alpha, forced = (build_schedule(value, max_steps)(clock) for value in values)
    return Setting(
        eps, temperature, alpha, forced, context.num_passes, context.own_token == "sample",
        context.top_k, context.min_p, context.guidance == "clamp", context.straight_through,
    )  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """B texts as a policy meets them.

    Attributes:
        prompts: (K_b, D) each, differentiable in what is trained.
        targets: (T_b,) token ids each.
        settings: the policy's values, a text each.
        generators: a random stream a text.
        read_noise: (T_b, D) added to what is read, or None.
        log_temperatures: learned factors on the temperature, scalars; None where it is not learned.
    """

    prompts: list[Tensor]
    targets: list[Tensor]
    settings: list[Setting]
    generators: list[torch.Generator]
    read_noise: list[Tensor | None]
    log_temperatures: list[Tensor | None]

    @property
    def longest(self) -> int:
        return max(len(target_T) for target_T in self.targets)

    def column(self, name: str) -> Tensor:
        """One value of all settings, (B, 1), float32."""
        values = [float(getattr(setting, name)) for setting in self.settings]
        return torch.tensor(values, device=self.prompts[0].device)[:, None]

    def noise_BTD(self) -> Tensor | None:
        """Read noise of all texts, zero-padded; None if there is none."""
        if all(noise_TD is None for noise_TD in self.read_noise):
            return None
        size = self.prompts[0].shape[1]
        rows = [
            self.prompts[b].new_zeros(len(self.targets[b]), size) if noise_TD is None else noise_TD
            for b, noise_TD in enumerate(self.read_noise)
        ]
        return pad_sequence(rows, batch_first=True)

    def noisy(self, contexts: list[Tensor]) -> list[Tensor]:
        """What is read: the contexts, (T_b, D) each, with the read noise on top."""
        return [
            context_TD if noise_TD is None else context_TD.float() + noise_TD
            for context_TD, noise_TD in zip(contexts, self.read_noise, strict=True)
        ]

    def unpadded(self, rows_BTD: Tensor) -> list[Tensor]:
        """Each text's own positions, (T_b, D) each."""
        return [row_TD[: len(target_T)] for row_TD, target_T in zip(rows_BTD, self.targets, strict=True)]
