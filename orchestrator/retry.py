"""What a second attempt does differently.

Owns: how vectors and margins are raised after an attempt came to nothing. Must not know: states, Ray.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from engine.slots import Attempt, Job
from orchestrator.verifier import Verdict

MAX_MARGIN = 16.0
"""Logits beyond which asking for more margin stops. Assumption."""


def make_retry(context: int, grows: bool) -> Callable[[Job, Attempt, Verdict | None], Job]:
    """The rule that follows a failed attempt.

    Args:
        context: positions the model can read.
        grows: whether K may be raised; false where the user fixed it.
    """

    def retry(job: Job, attempt: Attempt, verdict: Verdict | None) -> Job:
        next_job = replace(job, attempt=job.attempt + 1, start_KD=None, focus=())
        if verdict is not None:
            return _more_margin(next_job, attempt, verdict)
        return replace(next_job, num_vectors=_more_vectors(job, context)) if grows else next_job

    return retry


def _more_margin(job: Job, attempt: Attempt, verdict: Verdict) -> Job:
    """From the rejected prompt on, with more margin, weighted where the verifier broke off."""
    factor = job.recipe.margin_growth
    if job.recipe.loss.margin * factor > MAX_MARGIN:
        return job
    focus = (verdict.first_mismatch,) if verdict.first_mismatch < len(job.target.token_ids) else ()
    return replace(job, recipe=job.recipe.with_margins_times(factor), start_KD=attempt.prompt_KD, focus=focus)


def _more_vectors(job: Job, context: int) -> int:
    grown = max(job.num_vectors + 1, math.ceil(job.num_vectors * job.recipe.growth)) if job.recipe.growth > 1 else 0
    return min(max(grown, job.num_vectors), context - len(job.target.token_ids))
