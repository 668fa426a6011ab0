"""What a step costs, in positions: the unit in which budgets are equal.

Owns: the count. Must not know: tensors. K soft-prompt vectors, T trained tokens.

A position is one read position passed forward and backward. The weights are frozen, so backward costs what forward
does: a pass without gradient counts half. Attention and the head's chunks are left out, for every method alike.
"""

from engine.contexts import policy_of
from engine.losses import ROLLOUT_TERMS, SAMPLE_TERMS
from engine.recipe import Recipe
from engine.recipe.sections import StartRecipe

FORWARD = 0.5
"""A pass without gradient over one with it."""


def step_positions(recipe: Recipe, weights: dict[str, float], num_vectors: int, num_tokens: int) -> float:
    """Positions of one step of one slot.

    Args:
        recipe: of the slot's stage.
        weights: the terms due at this step.
    """
    one_pass = num_vectors + num_tokens - 1
    passes = 1.0
    if has_own_pass(recipe):
        passes += FORWARD
    passes += FORWARD * policy_of(recipe.context).walks(recipe.context)
    if any(name in weights for name in ROLLOUT_TERMS):
        passes += FORWARD + 1
    if any(name in weights for name in SAMPLE_TERMS):
        passes += recipe.knobs.samples * (FORWARD + 1)
    if recipe.optim.align_to != "none":
        passes += FORWARD  # a second way back, for the reference
    prompt_pass = FORWARD * num_vectors if "prompt_perplexity" in weights else 0.0
    return passes * one_pass + prompt_pass


def start_positions(start: StartRecipe, num_positions: int, *, is_given: bool) -> int:
    """Positions of the passes before the first step: those that look at a prompt for a learned start to correct it.

    Counted whole, for a learned step takes its gradient there; the small networks' own work is left out.

    Args:
        is_given: the prompt is one to go on from, and what becomes of it is looked at once more.
    """
    if start.name != "learned" or not start.corrections:
        return 0
    return (start.corrections + is_given) * num_positions


def has_own_pass(recipe: Recipe) -> bool:
    """Whether training reads something else than what is measured: another context, or noise."""
    return not policy_of(recipe.context).is_measured or recipe.noise.kind != "none"
