"""The policies by name: how each reads, and what that is to the rest of the engine.

Owns: the records. Must not know: how a policy makes its contexts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from engine.contexts.chosen import embedding_mix, free_running, scheduled_sampling, teacher_forcing, two_pass
from engine.contexts.soft import gumbel_softmax, soft_decoding
from engine.contexts.texts import Setting, Texts
from engine.frozen_lm import FrozenLM
from engine.recipe.sections import ContextRecipe


@dataclass(frozen=True)
class Policy:
    """A context policy.

    Attributes:
        read: texts to the hidden states that predict their target tokens, (N, D), aligned by `FrozenLM.read`.
        is_measured: what it reads is what is measured, so that training needs no pass of its own.
        is_soft: it reads mixtures, whose temperature can be learned.
        is_partial: it gives a leading part of the text alone (`num_given`); a reward term trains the rest.
        walks: passes without a gradient before that which has one, by its settings.
    """

    read: Callable[[FrozenLM, Texts], Tensor]
    is_measured: bool = False
    is_soft: bool = False
    is_partial: bool = False
    walks: Callable[[ContextRecipe], int] = lambda _: 0

    def num_given(self, setting: Setting, num_tokens: int) -> int:
        """Leading target positions that the main loss scores. Source: Ranzato et al. 2016, 1511.06732."""
        if not self.is_partial:
            return num_tokens
        return max(0, min(num_tokens, math.ceil(setting.forced_frac * num_tokens)))


POLICIES: dict[str, Policy] = {
    "teacher_forcing": Policy(teacher_forcing, is_measured=True),
    "scheduled_sampling": Policy(scheduled_sampling, walks=lambda _: 1),
    "embedding_mix": Policy(embedding_mix, walks=lambda _: 1),
    "two_pass": Policy(two_pass, walks=lambda context: context.num_passes),
    "free_running": Policy(free_running, walks=lambda _: 1),
    "mixer": Policy(teacher_forcing, is_measured=True, is_partial=True),
    "soft_decoding": Policy(soft_decoding, is_soft=True),
    "gumbel_softmax": Policy(gumbel_softmax, is_soft=True),
}


def policy_of(context: ContextRecipe) -> Policy:
    """The policy that a recipe names."""
    return POLICIES[context.name]
