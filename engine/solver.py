"""The solver: a table of slots over one frozen model, refilled as slots finish.

Owns: admission, the optimisation step, when a slot ends. Must not know: Ray, vLLM, files.

One step reads: measure, remember, stop?, update. What is stored is what was measured.
B slots in a pass, K soft-prompt vectors, T target tokens, D hidden size.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from engine import curriculum
from engine.certificate import Certificate
from engine.checkpoint import Checkpoint
from engine.correction.start import correct_start
from engine.cost import has_own_pass, start_positions
from engine.frozen_lm import FrozenLM
from engine.held import held
from engine.optim import update
from engine.packing import padding_frac
from engine.passes import begin_training, make_prompt, measure, packs
from engine.population import cull, is_last_pass
from engine.slot_seed import slot_seed
from engine.slots import Attempt, Job, Slot
from engine.soft_prompt import BORROWING, STARTS, Origin, SolvedPrompts
from engine.training import descend, positions_of

MAX_NON_FINITE = 3
"""Restarts granted to a slot whose numbers stop being finite. Assumption."""


class Solver:
    """Optimises many soft prompts in one pass over one resident model.

    Args:
        lm: the frozen model.
        table_positions: read positions in the table at once; bounds memory, and the size of a pass.

    Attributes:
        largest_pass: positions of the largest pass of the last step, padding included.
        on_measured: told of every slot's margins at every step, (T,) on the CPU, before the slot moves.
    """

    def __init__(self, lm: FrozenLM, *, table_positions: int = 2048):
        if table_positions < 1:
            raise ValueError(f"table_positions = {table_positions}: must be at least 1")
        self.lm = lm
        self.table_positions = table_positions
        self.waiting: deque[Checkpoint] = deque()
        self.active: list[Slot] = []
        self.solved = SolvedPrompts()
        self.num_steps = 0
        self.num_positions = 0.0
        self.largest_pass = 0
        self.on_measured: Callable[[Slot, Tensor], None] = lambda slot, margin_T: None
        self._num_families = 0
        self._spending: set[int] = set()

    def submit(self, job: Job) -> None:
        """Queue an attempt; it is admitted as soon as the budget has room for all its siblings."""
        self.waiting.append(Checkpoint(job, []))

    def restore(self, job: Job, states: list[dict[str, Any]]) -> None:
        """Queue an attempt that goes on from its slots' `state_dict`s, one a sibling, first to last."""
        if len(states) != job.recipe.siblings:
            raise ValueError(f"{len(states)} states for {job.recipe.siblings} siblings: there must be one each")
        self.waiting.append(Checkpoint(job, states))

    def withdraw(self, keys: Collection[str]) -> list[Checkpoint]:
        """Take attempts out, to go on elsewhere; those that have not begun have no states."""
        waiting, self.waiting = self.waiting, deque()
        withdrawn = [checkpoint for checkpoint in self.checkpoints() if checkpoint.job.key in keys]
        self.active = [slot for slot in self.active if slot.job.key not in keys]
        for checkpoint in waiting:
            (withdrawn if checkpoint.job.key in keys else self.waiting).append(checkpoint)
        return withdrawn

    def checkpoints(self) -> list[Checkpoint]:
        """Every attempt in the table, as this or another solver can `restore` it."""
        return [Checkpoint(family[0].asked, [slot.state_dict() for slot in family]) for family in self._families()]

    @property
    def keys(self) -> set[str]:
        """Of all attempts, in the table or waiting."""
        return {slot.job.key for slot in self.active} | {job.key for job, _ in self.waiting}

    def spent(self) -> dict[str, float]:
        """Positions that each attempt in the table has taken, all siblings together, by key."""
        return {family[0].job.key: sum(slot.positions for slot in family) for family in self._families()}

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.active

    def step(self) -> list[Attempt]:
        """Admit what fits, pass once over every active slot, return the attempts that ended.

        Slots that read the same way share a pass. Places freed here are filled at the start of the next step.
        """
        self._admit()
        self._spending = {family[0].family for family in self._families() if is_last_pass(family)}
        self.largest_pass = 0
        by_reading: dict[str, list[Slot]] = {}
        for slot in self.active:
            if not slot.has_ended:
                by_reading.setdefault(_reading(slot), []).append(slot)
        padding = padding_frac(self.lm.device, self.lm.dtype, is_packed=self.lm.packs_up_to > 0)
        for slots in by_reading.values():
            for pack in packs(slots, self.table_positions, packs_up_to=self.lm.packs_up_to, padding_frac=padding):
                self._step_pack(pack)
        self.num_steps += 1
        return self._release()

    def solve(self, jobs: list[Job], *, seconds: float = math.inf) -> list[Attempt]:
        """Run jobs to their end, or for about `seconds`; attempts in order of completion, those cut short last."""
        for job in jobs:
            self.submit(job)
        ends = time.monotonic() + seconds
        attempts: list[Attempt] = []
        while not self.is_idle and time.monotonic() < ends:
            attempts += self.step()
        return attempts + self._cut_short()

    def _cut_short(self) -> list[Attempt]:
        """End everything: what is in the table as it is, what waits unseen."""
        self.waiting.clear()
        for slot in self.active:
            slot.has_ended = True
        return self._release()

    def _admit(self) -> None:
        used = sum(slot.job.num_positions for slot in self.active if not slot.has_ended)
        while self.waiting:
            job, states = self.waiting[0]
            cost = job.num_positions * job.recipe.siblings
            if self.active and used + cost > self.table_positions:
                return
            for slot, state in zip(self._open(job), states, strict=False):
                slot.load_state_dict(state)
            self.waiting.popleft()  # only now: a start may run out of memory
            used += cost

    def _open(self, job: Job) -> list[Slot]:
        job = replace(job, reach=self.lm.reach.of(job.target.token_ids))
        slots = [self._new_slot(job, sibling) for sibling in range(job.recipe.siblings)]
        self.active += slots
        self._num_families += 1
        return slots

    def _new_slot(self, asked: Job, sibling: int) -> Slot:
        job = asked.of_sibling(sibling)
        target_T = torch.tensor(job.target.token_ids, device=self.lm.device)
        generator = torch.Generator().manual_seed(slot_seed(job.recipe.seed, job.target.id, job.attempt, sibling))
        if job.start_KD is not None and sibling == 0:
            given_KD = held(job.start_KD).to(self.lm.device, torch.float32)
            start_KD = correct_start(self.lm, given_KD, target_T, job.recipe.start)
        else:
            start_KD = self._start(job, target_T, generator, is_repeat=job.attempt > 0 or sibling > 0)
        slot = Slot(
            job, asked, self._num_families, sibling, job.recipe.by_stage(), target_T, generator,
            curriculum.first_lesson(job.recipe, len(target_T)), start_KD,
        )  # fmt: skip
        is_given = job.start_KD is not None and sibling == 0
        slot.positions = float(start_positions(job.recipe.start, job.num_positions, is_given=is_given))
        begin_training(self.lm, slot, start_KD)
        return slot

    def _start(self, job: Job, target_T: Tensor, generator: torch.Generator, *, is_repeat: bool) -> Tensor:
        origin = Origin(job.num_vectors, generator, target_T, self.solved, is_repeat, job.recipe.start)
        return STARTS[job.recipe.start.name](self.lm, origin) * job.recipe.start.scale

    def _step_pack(self, pack: list[Slot]) -> None:
        """Measure all; of those that go on, train on the same pass or on the one their recipe reads."""
        measured = measure(self.lm, pack, keeps_gradient=not has_own_pass(pack[0].recipe))
        self.largest_pass = max(self.largest_pass, measured.begun.layout.num_positions)
        certificates, margin_BT = measured.to_host()
        for slot, margin_T in zip(pack, margin_BT, strict=True):
            self.on_measured(slot, margin_T[: slot.lesson.window])
        moving = []
        for slot, certificate in zip(pack, certificates, strict=True):
            slot.positions += (cost := positions_of(slot))
            self.num_positions += cost
            slot.observe(certificate, slot.prompt_KD)
            slot.has_ended = slot.is_certified or slot.is_exhausted or slot.family in self._spending
            if not math.isfinite(certificate.min_margin):
                self._mend(slot)
            elif not slot.has_ended:
                moving.append((slot, certificate))
        if not moving:
            return
        slots = [slot for slot, _ in moving]
        update(self.lm, *descend(measured, margin_BT, slots), slots)
        for slot, certificate in moving:
            slot.prompt_KD = make_prompt(self.lm, slot, slot.trained).detach()
            self._advance(slot, certificate)

    def _advance(self, slot: Slot, certificate: Certificate) -> None:
        """Move on in the curriculum if the measurement says so; a new parameterisation starts from the prompt."""
        outcome = curriculum.Outcome(
            is_exact=certificate.first_mismatch == slot.lesson.window,
            accuracy=certificate.accuracy,
            clock=slot.clock,
            progress=slot.progress,
        )
        before = slot.recipe.parameterisation
        slot.lesson = curriculum.next_lesson(slot.lesson, outcome, slot.job.recipe, len(slot.target_T))
        if slot.recipe.parameterisation != before:
            begin_training(self.lm, slot, slot.prompt_KD)

    def _mend(self, slot: Slot) -> None:
        """Start a slot with non-finite numbers afresh, alone; its neighbours' rows never met them."""
        slot.non_finite += 1
        slot.has_ended = slot.has_ended or slot.non_finite > MAX_NON_FINITE
        slot.step = 0
        slot.lesson = curriculum.first_lesson(slot.job.recipe, len(slot.target_T))
        begin_training(self.lm, slot, self._start(slot.job, slot.target_T, slot.generator, is_repeat=True))

    def _release(self) -> list[Attempt]:
        """Take ended jobs out of the table: one certified sibling, or all at their end, ends all. Cull the others."""
        attempts = []
        for family in self._families():
            if any(slot.is_certified for slot in family) or all(slot.has_ended for slot in family):
                winner = max(family, key=lambda slot: slot.rank)
                attempt = winner.attempt(positions=sum(slot.positions for slot in family))
                attempts.append(attempt)
                if winner.is_certified and winner.job.recipe.start.name in BORROWING:
                    self.solved.add(list(winner.job.target.token_ids), held(attempt.prompt_KD))
                self.active = [slot for slot in self.active if slot not in family]
            else:
                cull(self.lm, family)
        return attempts

    def _families(self) -> list[list[Slot]]:
        """The table's slots by attempt, siblings in their order."""
        families: dict[int, list[Slot]] = {}
        for slot in self.active:
            families.setdefault(slot.family, []).append(slot)
        return list(families.values())


def _reading(slot: Slot) -> str:
    """What slots must have in common to share a pass."""
    return slot.recipe.context.name if has_own_pass(slot.recipe) else "measured"
