"""What a second attempt does differently.

Owns: how vectors and margins are raised, and who of a portfolio is next, after an attempt came to nothing. Must not
know: states, Ray.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from engine.correction.iterated import corrected
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from orchestrator.verifiers.contract import Verdict

MAX_MARGIN = 16.0
"""Logits beyond which asking for more margin stops. Assumption."""


def make_retry(context: int, grows: bool) -> Callable[[Job, Attempt, Verdict | None], Job]:
    """The rule that follows a failed attempt.

    Args:
        context: positions that soft prompt and target may have together: what the verifier is served with.
        grows: whether K may be raised; false where the user fixed it. `after_failure = "correct"` keeps it too.
    """

    def retry(job: Job, attempt: Attempt, verdict: Verdict | None) -> Job:
        next_job = replace(job, attempt=job.attempt + 1, start_KD=None, focus=(), is_objected=False)
        if verdict is not None:
            return _more_margin(next_job, attempt, verdict)
        next_job = replace(next_job, member=job.member + job.recipe.siblings)
        if job.recipe.after_failure == "correct":
            return corrected(next_job, attempt)
        return replace(next_job, num_vectors=_more_vectors(job, context)) if grows else next_job

    return retry


def _more_margin(job: Job, attempt: Attempt, verdict: Verdict) -> Job:
    """From the rejected prompt on, under the recipe that made it, with more margin, weighted where the verifier broke
    off."""
    factor = job.recipe.margin_growth
    if job.recipe.loss.margin * factor > MAX_MARGIN:
        return job
    focus = (verdict.first_mismatch,) if verdict.first_mismatch < len(job.target.token_ids) else ()
    return replace(
        job, recipe=job.recipe.with_margins_times(factor), member=job.member + attempt.sibling,
        start_KD=attempt.prompt_KD, focus=focus, is_objected=True,
    )  # fmt: skip


def most_vectors(num_vectors: int, recipe: Recipe) -> int:
    """K of the last attempt at a text that begins with `num_vectors` and is never solved."""
    if recipe.num_vectors != "auto":
        return num_vectors
    for _ in range(recipe.attempts - 1):
        num_vectors = _grown(num_vectors, recipe)
    return num_vectors


def _more_vectors(job: Job, context: int) -> int:
    return min(_grown(job.num_vectors, job.recipe), context - len(job.target.token_ids))


def _grown(num_vectors: int, recipe: Recipe) -> int:
    return max(num_vectors + 1, math.ceil(num_vectors * recipe.growth)) if recipe.growth > 1 else num_vectors
