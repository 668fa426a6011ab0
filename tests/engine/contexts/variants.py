"""Every context policy in every variant: what the tests of policies and of their formulas share."""

import pytest
from torch import Tensor

from engine.contexts import POLICIES, Setting, Texts
from tests.engine.contexts.texts import PLAIN

STATES, GRADIENTS = 1e-3, 1e-2
"""Tolerances, shares of the largest entry: logits and mixtures are float32, and rounding grows with every soft step."""


def settings(**columns) -> list[Setting]:
    """Three texts' settings, which differ in the columns given."""
    return [PLAIN._replace(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


EPS, ALPHA = (0.3, 0.6, 0.5), (0.3, 0.5, 0.2)
MIXES, CLAMPS = (False, True, False), (True, False, True)
VARIANTS: dict[str, tuple[str, list[Setting]]] = {
    "teacher forcing": ("teacher_forcing", [PLAIN] * 3),
    "mixer": ("mixer", [PLAIN] * 3),
    "scheduled sampling": ("scheduled_sampling", settings(eps=EPS)),
    "scheduled sampling, own tokens drawn": (
        "scheduled_sampling",
        settings(eps=EPS, samples_own=(True, False, True)),
    ),
    "embedding mix": ("embedding_mix", settings(eps=EPS)),
    "embedding mix, own tokens drawn": ("embedding_mix", settings(eps=EPS, samples_own=(False, True, True))),
    "free running": ("free_running", [PLAIN] * 3),
    "free running, own tokens drawn": ("free_running", settings(samples_own=(True, False, True))),
    "two passes": ("two_pass", settings(eps=EPS)),
    "two passes and more": ("two_pass", settings(eps=EPS, num_passes=(2, 1, 3))),
    "soft decoding": ("soft_decoding", settings(temperature=(1.5, 3.0, 1.0))),
    "soft decoding, top-k": ("soft_decoding", settings(top_k=(7, 0, 3), temperature=(3.0, 2.0, 1.0))),
    "soft decoding, min-p": ("soft_decoding", settings(min_p=(0.05, 0.2, 0.0))),
    "soft decoding, both": ("soft_decoding", settings(top_k=(0, 13, 1), min_p=(0.1, 0.01, 0.5))),
    "soft decoding, guided": ("soft_decoding", settings(guidance_alpha=ALPHA, clamps=MIXES)),
    "soft decoding, guided otherwise": ("soft_decoding", settings(guidance_alpha=ALPHA, clamps=CLAMPS)),
    "gumbel": ("gumbel_softmax", settings(temperature=(1.5, 3.0, 1.0))),
    "gumbel, straight through": ("gumbel_softmax", settings(straight_through=(True, False, True))),
    "gumbel, straight through otherwise": ("gumbel_softmax", settings(straight_through=(False, True, False))),
    "gumbel, guided": ("gumbel_softmax", settings(guidance_alpha=ALPHA, clamps=CLAMPS)),
}

ALL_VARIANTS = pytest.mark.parametrize("variant", VARIANTS)
SOFT = [name for name, policy in POLICIES.items() if policy.is_soft]
SOFT_VARIANTS = [variant for variant, (policy, _) in VARIANTS.items() if policy in SOFT]


def leaves_of(texts: Texts) -> list[Tensor]:
    return [*texts.prompts, *(log for log in texts.log_temperatures if log is not None)]
