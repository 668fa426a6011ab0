"""Correction without training: go on from the best prompt of a failed attempt, weighed where its decoding breaks off.

Owns: the next attempt. Must not know: networks, the queue, the verifier.

Decode freely, find the first token that is not the target's, weigh that position, begin again from the same prompt
with a fresh optimiser. Where free decoding breaks off needs no decoding: it is the certificate's first mismatch.
Source: the loop of Vec2Text (Morris et al. 2023, 2310.06816) with the optimiser in the corrector's place; ours.
"""

from dataclasses import replace

from engine.slots import Attempt, Job


def corrected(job: Job, attempt: Attempt) -> Job:
    """The attempt that follows one that was not solved, by `after_failure = "correct"`.

    Args:
        job: the next attempt as it would begin afresh.
        attempt: the one that failed; its best prompt is where the next begins.
    """
    certificate = attempt.certificate
    if certificate is None:  # nothing finite was ever measured
        return job
    broken = certificate.first_mismatch
    focus = (broken,) if broken < len(job.target.token_ids) else ()
    return replace(job, num_vectors=len(attempt.prompt_KD), start_KD=attempt.prompt_KD, focus=focus)
