"""Blocks: the prompts of one answer as one object in Ray's store, so that they never pass through the driver.

Owns: taking prompts out of what is sent, putting them in again. Must not know: how they are brought, who reads them.

    solver   advance -> (Advance without prompts, block)    two values: the driver asked, so both are its own,
    driver   Elsewhere(shape, index, reference of the block)    and it gets the first alone
    verifier, writer, a solver that begins from a prompt    brought: straight from the store of the solver's node

A block outlives the process that made it. It goes with the last record that names it, or with its node: whose prompt
is lost is solved again.
"""

from dataclasses import replace
from typing import Any

import torch

from engine.elsewhere import Elsewhere
from engine.held import held
from engine.slots import Attempt, Job
from orchestrator.fleet.brought import Block, brought
from orchestrator.verifiers.contract import Candidate


def taken_out(attempts: list[Attempt]) -> tuple[list[Attempt], Block]:
    """Attempts whose prompts are elsewhere, and these prompts; what an attempt began from stays here."""
    block = [held(attempt.prompt_KD).numpy() for attempt in attempts]
    without = [
        replace(
            attempt,
            job=replace(attempt.job, start_KD=None),
            prompt_KD=Elsewhere((prompt_KD.shape[0], prompt_KD.shape[1]), index),
        )
        for index, (attempt, prompt_KD) in enumerate(zip(attempts, block, strict=True))
    ]
    return without, block


def placed(attempts: list[Attempt], block_ref: Any) -> list[Attempt]:
    """Attempts that know where their prompts lie."""
    return [
        replace(attempt, prompt_KD=replace(attempt.prompt_KD, place=block_ref))
        if isinstance(attempt.prompt_KD, Elsewhere)
        else attempt
        for attempt in attempts
    ]


def present(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates with their prompts, without those whose prompt is lost."""
    prompts = brought(candidate.prompt_KD for candidate in candidates)
    return [
        replace(candidate, prompt_KD=prompt_KD)
        for candidate, prompt_KD in zip(candidates, prompts, strict=True)
        if prompt_KD is not None
    ]


def with_start(job: Job) -> Job:
    """A job with the prompt that it begins from; with the recipe's own start where that is lost."""
    if not isinstance(job.start_KD, Elsewhere):
        return job
    (prompt_KD,) = brought([job.start_KD])
    return replace(job, start_KD=None if prompt_KD is None else torch.tensor(prompt_KD))
