"""One training step's gradient: from a pass over slots to what each of their trained tensors should move against.

Owns: which terms are due, weighing them by recipe. Must not know: admission, when a slot ends.

    trained tensors -> prompts -> measured pass -> (noise, context policy -> training pass) -> terms -> gradients

B slots in a pass, K soft-prompt vectors, T tokens of a slot's window, D hidden size.
"""

from collections.abc import Set
from itertools import chain, repeat

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engine.certificate import slacks
from engine.contexts import policy_of, setting_at
from engine.cost import has_own_pass, step_positions
from engine.head import Scores
from engine.layout import to_device
from engine.losses import MARGIN_TERMS, SAMPLE_TERMS, TERMS, Knobs, Positions, TextView, View
from engine.losses.position import position_weights
from engine.optim import aligned
from engine.passes import Pass, read_own_way
from engine.slots import Slot
from engine.stacks import Stack

FOCUS_WEIGHT = 3.0
"""Weight of a position where the verifier broke off. Assumption."""

ENDLESS_TERMS = {"entropy", "reinforce", "rloo", "professor_forcing"}
"""Terms whose least value is not 0, so that no step can aim at it."""


def positions_of(slot: Slot) -> float:
    """What this step of a slot costs, in positions."""
    return step_positions(slot.recipe, term_weights(slot), slot.job.num_vectors, slot.lesson.window)


def term_weights(slot: Slot) -> dict[str, float]:
    """Weight of every term that is due at the slot's step; the main loss is among them."""
    recipe = slot.recipe
    weights = {name: slot.at(value) for name, value in slot.terms.items()}
    if slot.step % recipe.knobs.autoregressive_every:
        weights["autoregressive"] = 0.0
    weights[recipe.loss.name] = weights.get(recipe.loss.name, 0.0) + slot.at(recipe.loss.weight)
    return {name: weight for name, weight in weights.items() if weight}


def descend(
    measured: Pass, margin_BT: Float[Tensor, "B T"], moving: list[Slot]
) -> tuple[list[Stack], list[Tensor], Float[Tensor, "B"]]:
    """Gradients of the slots' losses by their trained tensors, and what of the losses could come to 0.

    Args:
        measured: the pass of all slots, with gradient where they train on it.
        margin_BT: its margins, on the CPU.
        moving: slots that go on; of the others nothing that is returned means anything.
    Returns:
        stacks of trained tensors, a gradient each, and the part of each slot's loss that a step can aim at.
    """
    training, kept = measured, set(map(id, moving))
    if has_own_pass(moving[0].recipe):
        rows = [b for b, slot in enumerate(measured.slots) if id(slot) in kept]
        training = read_own_way(measured.begun.lm, moving)
        margin_BT = margin_BT[rows, : max(training.begun.lengths)]
    weights = [term_weights(slot) if id(slot) in kept else {} for slot in training.slots]
    view = View(training.begun.lm, _positions(training, margin_BT, weights), lambda: _texts(training))
    loss_B = _weighed(view, weights)
    excess_B = loss_B.detach()
    if any(ENDLESS_TERMS & by_name.keys() for by_name in weights):
        excess_B = _weighed(view, [_without(by_name, ENDLESS_TERMS) for by_name in weights]).detach()
    stacks, references = training.begun.stacks, [slot.recipe.optim.align_to for slot in training.slots]
    is_aligned = any(name != "none" for name in references)
    gradients = _gradients(loss_B.sum(), stacks, keep=is_aligned)
    if is_aligned:
        due = [
            {name: 1.0} if name != "none" and by_name else {} for name, by_name in zip(references, weights, strict=True)
        ]
        reference = _gradients(_weighed(view, due).sum(), stacks, keep=False)
        gradients = aligned(stacks, gradients, reference, len(weights))
    if any(name in SAMPLE_TERMS for by_name in weights for name in by_name):
        _remember_rewards(training.slots, view)
    return stacks, gradients, excess_B


def _without(weights: dict[str, float], names: Set[str]) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if name not in names}


def _remember_rewards(slots: list[Slot], view: View) -> None:
    for slot, text in zip(slots, view.texts, strict=True):
        if text.samples is not None:
            decay = slot.recipe.knobs.baseline_decay
            slot.baseline = decay * slot.baseline + (1 - decay) * float(text.samples.reward_n.mean())


def _positions(training: Pass, margin_BT: Tensor, weights: list[dict[str, float]]) -> Positions:
    """Scores side by side, and every slot's values of its main loss."""
    scores_BT = Scores(*(training.side_by_side(column_N) for column_N in training.scores_N))
    device = training.mask_BT.device
    columns = [
        [loss.margin * slot.at(loss.margin_factor), loss.p, loss.gamma]
        for slot in training.slots
        for loss in [slot.recipe.loss]
    ]
    margin_B, p_B, gamma_B = to_device(np.asarray(columns, dtype=np.float32), device).unbind(1)
    weight_BT = to_device(position_weights_of(training.slots, margin_BT), device)
    lead_BT = _leads(training, scores_BT, weights)
    return Positions(scores_BT, training.mask_BT, Knobs(margin_B, p_B, gamma_B, weight_BT, lead_BT))


def position_weights_of(slots: list[Slot], margin_BT: Float[Tensor, "B T"]) -> np.ndarray:
    """What each position weighs in its slot's main loss, (B, T): focus, favoured beginnings, and 0 beyond the given."""
    weight_BT = np.ones(margin_BT.shape, dtype=np.float32)
    for b, (slot, margin_T) in enumerate(zip(slots, margin_BT, strict=True)):
        weight_T: np.ndarray = weight_BT[b]
        loss, window = slot.recipe.loss, slot.lesson.window
        weight_T[[t for t in slot.job.focus if t < window]] = FOCUS_WEIGHT
        if loss.prefix_weight != 1 or loss.num_leading:
            weight_T[:window] *= position_weights(
                margin_T[:window], num_leading=loss.num_leading, leading_weight=loss.leading_weight,
                prefix_weight=loss.prefix_weight,
            ).numpy()  # fmt: skip
        if policy_of(slot.recipe.context).is_partial:
            weight_T[_num_given(slot) :] = 0.0
    return weight_BT


def _num_given(slot: Slot) -> int:
    setting = setting_at(slot.recipe.context, slot.clock, slot.job.recipe.max_steps)
    return policy_of(slot.recipe.context).num_given(setting, slot.lesson.window)


def _leads(training: Pass, scores_BT: Scores, weights: list[dict[str, float]]) -> Float[Tensor, "B T"] | None:
    """With `proof = "beam"`, what a margin is asked of: `Certificate.lead` by token, nats; None where nobody asks.

    Like margins, leads are the model's own, whatever the temperature of the likelihoods.
    """
    slots, begun = training.slots, training.begun
    is_beam = [slot.recipe.proof == "beam" for slot in slots]
    if not any(beam and MARGIN_TERMS & by_name.keys() for beam, by_name in zip(is_beam, weights, strict=True)):
        return None
    nll_BT = scores_BT.nll
    if any(slot.at(slot.recipe.loss.temperature) != 1 for slot in slots):
        nll_BT = training.side_by_side(begun.lm.head.score(training.hidden_ND, begun.target_N).nll)
    columns = [[beam, slot.job.overrun / len(slot.target_T)] for beam, slot in zip(is_beam, slots, strict=True)]
    is_beam_B1, overrun_B1 = to_device(np.asarray(columns, dtype=np.float32), nll_BT.device).split(1, dim=1)
    lead_BT = slacks(nll_BT, training.mask_BT) - nll_BT.sum(1, keepdim=True) * overrun_B1
    return torch.where(is_beam_B1 > 0, lead_BT, scores_BT.margin)


def _texts(training: Pass) -> list[TextView]:
    """What terms look at that go a text at a time."""
    begun = training.begun
    columns = zip(*(column.split(begun.lengths) for column in training.scores_N), strict=True)
    parts = zip(
        training.slots, begun.trained, training.prompts, begun.targets, columns,
        training.hidden_ND.split(begun.lengths), strict=True,
    )  # fmt: skip
    return [
        TextView(
            prompt_KD, target_T, Scores(*column), hidden_TD, _num_given(slot), slot.recipe.knobs, slot.generator,
            judge=(leaf["judge_weight"], leaf["judge_bias"]) if "judge_weight" in leaf else None,
            baseline=slot.baseline,
        )
        for slot, leaf, prompt_KD, target_T, column, hidden_TD in parts
    ]  # fmt: skip


def _weighed(view: View, weights: list[dict[str, float]]) -> Float[Tensor, "B"]:
    """Sum of each text's weighted terms; a term is computed on the texts that weigh it."""
    device = view.lm.device
    loss_B = torch.zeros(len(weights), device=device)
    # Sampled terms last and in one order, so that a slot's stream does not depend on its company.
    names = {name for by_name in weights for name in by_name}
    for name in sorted(names, key=lambda name: (name in SAMPLE_TERMS, name)):
        rows = [b for b, by_name in enumerate(weights) if name in by_name]
        weight_M = to_device([weights[b][name] for b in rows], device)
        value_M = TERMS[name](view.take(rows)).float() * weight_M
        loss_B = loss_B.index_add(0, to_device(np.asarray(rows), device), value_M)
    return loss_B


def _gradients(loss: Tensor, stacks: list[Stack], *, keep: bool) -> list[Tensor]:
    """Gradients by stack, zero where the loss does not reach one."""
    leaves = [stack.value_RW for stack in stacks]
    # Where no term is due at this step the loss is a constant, which autograd refuses.
    reached = torch.autograd.grad(loss, leaves, retain_graph=keep, allow_unused=True) if loss.requires_grad else ()
    grads = chain(reached, repeat(None))
    return [torch.zeros_like(leaf) if (grad := next(grads)) is None else grad for leaf in leaves]
