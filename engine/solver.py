"""The solver: a table of slots over one frozen model, refilled as slots finish.

Owns: admission, the optimisation step, when a slot ends. Must not know: Ray, vLLM, files.

One step reads: measure, remember, stop?, update. What is stored is what was measured.
B slots in a pass, K soft-prompt vectors, T target tokens, D hidden size.
"""

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from engine import losses
from engine.certificate import certify
from engine.frozen_lm import FrozenLM
from engine.head import Scores
from engine.recipe import Recipe
from engine.schedules import decay_schedule
from engine.slots import FOCUS_WEIGHT, Attempt, Job, Slot, packs, slot_seed
from engine.soft_prompt import STARTS

MAX_NON_FINITE = 3
"""Restarts granted to a slot whose numbers stop being finite. Assumption."""


class Solver:
    """Optimises many soft prompts in one pass over one resident model.

    Args:
        lm: the frozen model.
        token_budget: read positions in the table at once; bounds memory, and the size of a pass.
    """

    def __init__(self, lm: FrozenLM, *, token_budget: int = 2048):
        if token_budget < 1:
            raise ValueError(f"token_budget = {token_budget}: must be at least 1")
        self.lm = lm
        self.token_budget = token_budget
        self.waiting: deque[Job] = deque()
        self.active: list[Slot] = []
        self.num_steps = 0
        self.num_tokens = 0
        self._num_families = 0

    def submit(self, job: Job) -> None:
        """Queue an attempt; it is admitted as soon as the budget has room for all its siblings."""
        self.waiting.append(job)

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.active

    def step(self) -> list[Attempt]:
        """Admit what fits, pass once over every active slot, return the attempts that ended.

        Places freed here are filled at the start of the next step.
        """
        self._admit()
        for pack in packs([slot for slot in self.active if not slot.has_ended], self.token_budget):
            self._step_pack(pack)
        self.num_steps += 1
        return self._release()

    def solve(self, jobs: list[Job], on_attempt: Callable[[Attempt], None] | None = None) -> list[Attempt]:
        """Run jobs to their end; attempts in order of completion."""
        for job in jobs:
            self.submit(job)
        attempts: list[Attempt] = []
        while not self.is_idle:
            for attempt in self.step():
                attempts.append(attempt)
                if on_attempt:
                    on_attempt(attempt)
        return attempts

    def _admit(self) -> None:
        used = sum(slot.job.num_positions for slot in self.active)
        while self.waiting:
            job = self.waiting[0]
            cost = job.num_positions * job.recipe.siblings
            if self.active and used + cost > self.token_budget:
                return
            self.waiting.popleft()
            self.active += [self._new_slot(job, sibling) for sibling in range(job.recipe.siblings)]
            self._num_families += 1
            used += cost

    def _new_slot(self, job: Job, sibling: int) -> Slot:
        generator = torch.Generator().manual_seed(slot_seed(job.recipe.seed, job.target.id, job.attempt, sibling))
        if job.start_KD is not None and sibling == 0:
            prompt_KD = job.start_KD.to(self.lm.device, torch.float32)
        else:
            prompt_KD = STARTS[job.recipe.start.name](self.lm, job.num_vectors, generator)
        target_T = torch.tensor(job.target.token_ids, device=self.lm.device)
        weight_T = torch.ones(len(target_T), device=self.lm.device)
        weight_T[list(job.focus)] = FOCUS_WEIGHT
        zeros_KD = torch.zeros_like(prompt_KD)
        return Slot(job, self._num_families, sibling, target_T, weight_T, generator, prompt_KD, zeros_KD, zeros_KD)

    def _step_pack(self, pack: list[Slot]) -> None:
        prompts = [slot.prompt_KD.detach().requires_grad_() for slot in pack]
        scores_N, lengths = self.lm.score_targets(prompts, [slot.target_T for slot in pack])
        moving = []
        for b, margin_T in enumerate(scores_N.margin.detach().cpu().split(lengths)):
            slot, certificate = pack[b], certify(margin_T)
            slot.tokens += slot.job.num_positions
            slot.observe(certificate)
            slot.has_ended = slot.is_certified or slot.is_exhausted
            if not math.isfinite(certificate.min_margin):
                self._mend(slot)
            elif not slot.has_ended:
                moving.append(b)
        self.num_tokens += sum(slot.job.num_positions for slot in pack)
        if moving:
            loss_B = text_losses(scores_N, lengths, pack)
            loss_B[moving].sum().backward()
            adam_step([pack[b] for b in moving], [prompts[b] for b in moving], self.lm.embed_rms)

    def _mend(self, slot: Slot) -> None:
        """Start a slot with non-finite numbers afresh, alone; its neighbours' rows never met them."""
        slot.non_finite += 1
        slot.has_ended = slot.has_ended or slot.non_finite > MAX_NON_FINITE
        fresh_KD = STARTS[slot.job.recipe.start.name](self.lm, slot.job.num_vectors, slot.generator)
        slot.restart(fresh_KD)

    def _release(self) -> list[Attempt]:
        """Take ended jobs out of the table: one certified sibling, or all exhausted, ends all."""
        families: dict[int, list[Slot]] = {}
        for slot in self.active:
            families.setdefault(slot.family, []).append(slot)
        attempts = []
        for family in families.values():
            if any(slot.is_certified for slot in family) or all(slot.has_ended for slot in family):
                winner = max(family, key=lambda slot: slot.best.certificate.min_margin if slot.best else float("-inf"))
                attempts.append(winner.attempt(tokens=sum(slot.tokens for slot in family)))
                self.active = [slot for slot in self.active if slot not in family]
        return attempts


def text_losses(scores_N: Scores, lengths: list[int], slots: list[Slot]) -> Tensor:
    """Loss of each slot under its own recipe, (B,), from the scores of all their positions, (sum of T_b,)."""
    padded = [torch.nn.utils.rnn.pad_sequence(list(column.split(lengths)), batch_first=True) for column in scores_N]
    scores_BT = Scores(*padded)
    weight_BT = torch.nn.utils.rnn.pad_sequence([slot.weight_T for slot in slots], batch_first=True)
    lengths_B = torch.tensor(lengths, device=weight_BT.device)
    mask_BT = torch.arange(weight_BT.shape[1], device=weight_BT.device) < lengths_B[:, None]
    recipes = [slot.job.recipe.loss for slot in slots]
    knobs = losses.Knobs(
        margin_B=weight_BT.new_tensor([recipe.margin for recipe in recipes]),
        p_B=weight_BT.new_tensor([recipe.p for recipe in recipes]),
        weight_BT=weight_BT,
    )
    loss_B = torch.zeros(len(slots), device=weight_BT.device)
    for name in {recipe.name for recipe in recipes}:
        rows = torch.tensor([recipe.name == name for recipe in recipes], device=weight_BT.device)
        loss_B = torch.where(rows, losses.TERMS[name](scores_BT, mask_BT, knobs), loss_B)
    return loss_B


def learning_rate(recipe: Recipe, step: int) -> float:
    """The recipe's rate at a step, in units of the embedding's root-mean-square entry."""
    optim = recipe.optim
    return decay_schedule(optim.decay, optim.lr, optim.lr * optim.final_lr_frac, recipe.max_steps)(step)


@torch.no_grad()
def adam_step(slots: list[Slot], prompts: list[Tensor], unit: float) -> None:
    """One Adam step for every slot at its own rate and betas, all rows in one set of elementwise operations.

    Args:
        slots: slots to move.
        prompts: their leaf tensors (K_b, D), `.grad` filled.
        unit: size of a rate of 1, in prompt units.
    Source: Kingma & Ba 2015, 1412.6980, algorithm 1.
    """
    sizes = [len(prompt_KD) for prompt_KD in prompts]
    optims = [slot.job.recipe.optim for slot in slots]

    def rows(values: list[float]) -> Tensor:
        column = torch.tensor(values, dtype=torch.float32).repeat_interleave(torch.tensor(sizes))
        return column[:, None].to(prompts[0].device)

    beta1_R, beta2_R = rows([o.beta1 for o in optims]), rows([o.beta2 for o in optims])
    grad_RD = torch.cat([prompt_KD.grad for prompt_KD in prompts if prompt_KD.grad is not None])
    mean_RD = torch.lerp(grad_RD, torch.cat([slot.mean_KD for slot in slots]), beta1_R)
    square_RD = torch.lerp(grad_RD.square(), torch.cat([slot.square_KD for slot in slots]), beta2_R)
    # The bias corrections fold into the rate and eps, so two columns carry every per-slot number.
    corrections = [
        (1 - o.beta1 ** (s.step + 1), (1 - o.beta2 ** (s.step + 1)) ** 0.5) for o, s in zip(optims, slots, strict=True)
    ]
    rates = [learning_rate(slot.job.recipe, slot.step) * unit for slot in slots]
    rate_R = rows([rate * root / first for rate, (first, root) in zip(rates, corrections, strict=True)])
    eps_R = rows([o.eps * root for o, (_, root) in zip(optims, corrections, strict=True)])
    prompt_RD = torch.cat(prompts) - rate_R * mean_RD / (square_RD.sqrt() + eps_R)
    split = zip(slots, prompt_RD.split(sizes), mean_RD.split(sizes), square_RD.split(sizes), strict=True)
    for slot, prompt_KD, mean_KD, square_KD in split:
        slot.prompt_KD, slot.mean_KD, slot.square_KD = prompt_KD, mean_KD, square_KD
        slot.step += 1
