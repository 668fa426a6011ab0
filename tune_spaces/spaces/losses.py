"""What a step descends: the main term, terms added to it, their knobs.

Owns: ranges of `loss`, `terms`, `knobs` and gradient alignment. Must not know: how terms are computed, studies.
"""

from typing import get_args

from engine.recipe.sections import LIKELIHOODS, LossName, TermsRecipe
from tune_spaces.spaces.draw import Draw
from tune_spaces.spaces.rules import reward_for_mixer

POSITION: tuple[str, ...] = get_args(LossName)
MARGINS = set(POSITION) - set(LIKELIHOODS)
"""Terms that ask for `loss.margin`."""

NORMS = {"violation_mix", "violation_norm"}
CHEAP = ("unlikelihood", "simctg", "prompt_perplexity", "manifold")
"""Added terms that cost hardly anything beside the pass; any of them may be there. So may entropy."""

SAMPLED = ("reinforce", "rloo", "minimum_risk")
ROLLOUTS = ("autoregressive", "sequence_unlikelihood", "optimal_completion", "professor_forcing", *SAMPLED)
"""Added terms that need the model's own output, two to seven times a plain step's work: at most one at a time."""

SMALLEST, LARGEST = 0.01, 1.0
"""Weights beside a main term of weight 1; the literature's lie between 0.1 and 0.5."""


def losses(draw: Draw) -> None:
    """Main term, added terms, and the knobs of those that are there."""
    draw.choice("loss.name", POSITION)
    added_terms(draw)
    reward_for_mixer(draw)
    used = {draw["loss.name"]} | {name for name in TermsRecipe.model_fields if draw.is_on(f"terms.{name}")}
    if used & set(LIKELIHOODS):
        draw.number("loss.temperature", 0.1, 2.0, log=True)
    if draw["loss.name"] in LIKELIHOODS and draw.integer("loss.patience", 0, 80):
        used.add("violation_norm")  # which takes over in the end
    position_knobs(draw, used)
    term_knobs(draw, used)
    if draw.switch("optim.align_to"):
        draw.choice("optim.align_to", POSITION)


def added_terms(draw: Draw) -> None:
    """At most a second term over positions, any of the cheap ones, at most one of the dear ones."""
    draw.one_of("terms.position", "terms", POSITION, SMALLEST, LARGEST)
    for name in CHEAP:
        draw.weight(f"terms.{name}", SMALLEST, LARGEST)
    draw.weight("terms.entropy", -0.3, 0.3, log=False)
    draw.one_of("terms.rollout", "terms", ROLLOUTS, SMALLEST, LARGEST)


def position_knobs(draw: Draw, used: set[str]) -> None:
    """Of the terms over positions, and the weights of positions."""
    if used & MARGINS:
        draw.number("loss.margin", 0.5, 8.0, log=True)
        if draw.switch("loss.margin_factor"):
            draw.schedule("loss.margin_factor", 1.0, 4.0, log=True)
    if used & NORMS:
        draw.number("loss.p", 1.0, 16.0, log=True)
    if "focal" in used:
        draw.number("loss.gamma", 0.0, 5.0)
    if draw.switch("loss.num_leading"):
        draw.integer("loss.num_leading", 1, 8)
        draw.number("loss.leading_weight", 1.0, 10.0, log=True)
    draw.weight("loss.prefix_weight", 1.0, 10.0)


def term_knobs(draw: Draw, used: set[str]) -> None:
    """Of the added terms."""
    if "simctg" in used:
        draw.number("knobs.contrast_rho", 0.0, 1.0)
    if "manifold" in used:
        draw.choice("knobs.manifold", ("nearest", "hull"))
    if "sequence_unlikelihood" in used:
        draw.integer("knobs.ngram", 2, 8)
    if "autoregressive" in used:
        draw.integer("knobs.autoregressive_every", 1, 50, log=True)
    if used & set(SAMPLED):
        draw.integer("knobs.samples", 2, 8)
        draw.number("knobs.sample_temperature", 0.5, 1.5)
        draw.choice("knobs.reward", ("prefix", "accuracy", "edit"))
    if "reinforce" in used:
        draw.number("knobs.baseline_decay", 0.0, 0.99)
    if "minimum_risk" in used:
        draw.number("knobs.risk_sharpness", 0.0005, 1.0, log=True)
