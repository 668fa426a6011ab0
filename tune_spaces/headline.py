"""What a search came to, in one sentence that is said first wherever a search is told of.

Owns: the words. Must not know: Ray, where they are shown.
"""

import optuna

from engine.recipe import Recipe
from tune_spaces.hold_out import Comparison
from tune_spaces.study import ended_trials, winner

NOTHING = "nothing beat the base"


def headline(study: optuna.Study, base: Recipe, comparison: Comparison | None, note: str | None = None) -> str:
    """Whether anything beat the base, and how that is known; without a full stop.

    Args:
        comparison: of the winner and the base on other texts; None where they did not meet there.
        note: what is to be known besides: that the search was interrupted.
    """
    return _told(study, base, comparison) if note is None else f"{_told(study, base, comparison)}. {note}"


def is_base_best(study: optuna.Study, base: Recipe) -> bool:
    """Whether the best complete trial is the base recipe itself, or there is none."""
    best = winner(study)
    return best is None or Recipe.model_validate_json(best.user_attrs["recipe"]).hash == base.hash


def _told(study: optuna.Study, base: Recipe, comparison: Comparison | None) -> str:
    best, num_trials = winner(study), len(ended_trials(study))
    if best is None:
        return f"{NOTHING}: no trial is complete"
    if is_base_best(study, base):
        return f"{NOTHING}: of {num_trials} trials it was the best itself"
    name = f"trial {best.number}"
    if comparison is None:
        return f"{name} is the best of {num_trials} on the texts of the search; how it does on others is not known"
    if comparison.is_win:
        return f"{name} beat the base on texts that the search never saw: {comparison.figures}"
    return f"{NOTHING}: {name}, the best of {num_trials}, on texts that the search never saw: {comparison.figures}"
