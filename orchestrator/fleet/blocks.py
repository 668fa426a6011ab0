"""Blocks: the prompts of one answer as one object in Ray's store, its checkpoints as another, so that neither passes
through the driver.

Owns: taking them out of what is sent, putting them in again. Must not know: how they are brought, who reads them.

    solver   advance -> (Advance without either, prompts, checkpoints)    the driver asked, so all are its own,
    driver   Elsewhere(shape, index, reference of the block)              and it gets the first alone
    verifier, writer, a solver that begins from one    brought: straight from the store of the solver's node

A block outlives the process that made it. It goes with the last record that names it, or with its node: whose prompt
is lost is solved again. Checkpoints are there for when a node is lost, so the driver's node gets a copy of them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import torch

from engine.elsewhere import Elsewhere, StateElsewhere
from engine.held import held
from engine.slots import Attempt, Job
from orchestrator.cluster.nodes import Home, only_on
from orchestrator.fleet.brought import Block, brought, copied
from orchestrator.verifiers.contract import Candidate
from orchestrator.work.item import Kept

SMALL_BYTES = 64 << 10
"""Up to which Ray surely sends a value within its message, so that it is with the driver already; its limit is 100 KiB,
of the value as it is packed."""


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


def states_taken_out(checkpoints: Mapping[str, Any]) -> tuple[dict[str, StateElsewhere], Block]:
    """What stands for checkpoints, and these."""
    block = [np.frombuffer(content, np.uint8) for content in checkpoints.values()]
    return {key: StateElsewhere(len(content), i) for i, (key, content) in enumerate(checkpoints.items())}, block


def states_placed(checkpoints: Mapping[str, Any], block_ref: Any, home: Home | None) -> dict[str, Kept]:
    """Checkpoints that know where they lie: on the driver's node, where this is called.

    Args:
        home: of the solver that they come from.
    """
    here = ray.get_runtime_context().get_node_id()
    if sum(map(len, checkpoints.values())) > SMALL_BYTES and (home is None or home.node_id != here):
        block_ref = copied.options(scheduling_strategy=only_on(here), name="copy").remote(block_ref)
    return {key: replace(state, place=block_ref) for key, state in checkpoints.items()}


def states_present(checkpoints: Mapping[str, Kept]) -> dict[str, bytes]:
    """Checkpoints themselves, without those that are lost: their attempts start over."""
    contents = brought(checkpoints.values())
    return {key: bytes(content) for key, content in zip(checkpoints, contents, strict=True) if content is not None}
