"""One training step's gradient: from slots to what each of their trained tensors should move against.

Owns: the measured pass, the training pass, weighing terms by recipe. Must not know: admission, when a slot ends.

    trained tensors -> prompts -> measured pass -> (noise, context policy -> training pass) -> terms -> gradients

B slots in a pass, K soft-prompt vectors, T tokens of a slot's window, D hidden size.
"""

from collections.abc import Set
from dataclasses import dataclass
from itertools import chain, repeat

import torch
from torch import Tensor

from engine.certificate import slacks
from engine.contexts import POLICIES, SOFT, Texts, num_given, setting_at
from engine.cost import has_own_pass, step_positions
from engine.frozen_lm import FrozenLM
from engine.head import Scores
from engine.losses import SAMPLE_TERMS, TERMS, TextView, View
from engine.losses.position import position_weights
from engine.noise import gaussian_noise
from engine.optim import aligned
from engine.parameterisation import PARAMETERISATIONS, Parameters, serve
from engine.recipe.sections import TermsRecipe
from engine.schedules import Value, build_schedule
from engine.slots import Slot

TERM_NAMES = tuple(TermsRecipe.model_fields)

ENDLESS_TERMS = {"entropy", "reinforce", "rloo", "professor_forcing"}
"""Terms whose least value is not 0, so that no step can aim at it."""


@dataclass(frozen=True)
class Measured:
    """Teacher-forced scores of B slots on their clean prompts, at the temperatures of their losses.

    Attributes:
        leaves: trained tensors of each slot, ready for gradients.
        prompts: (K_b, D) made from them.
        hidden: (T_b, D) states that predict the window's tokens.
        scores: theirs, (T_b,).
    """

    leaves: list[Parameters]
    prompts: list[Tensor]
    hidden: list[Tensor]
    scores: list[Scores]

    @classmethod
    def of(cls, lm: FrozenLM, slots: list[Slot], *, keeps_gradient: bool) -> "Measured":
        leaves = [{name: t.detach().requires_grad_() for name, t in slot.trained.items()} for slot in slots]
        prompts = [make_prompt(lm, slot, leaf) for slot, leaf in zip(slots, leaves, strict=True)]
        targets = [slot.target_T[: slot.lesson.window] for slot in slots]
        with torch.set_grad_enabled(keeps_gradient):
            hidden_ND = lm.read(prompts, lm.embed_targets(targets))
        hidden, scores = _scored(lm, hidden_ND, targets, slots)
        return cls(leaves, prompts, hidden, scores)

    def take(self, rows: list[int]) -> "Measured":
        """Some of the slots."""
        return Measured(
            [self.leaves[b] for b in rows],
            [self.prompts[b] for b in rows],
            [self.hidden[b] for b in rows],
            [self.scores[b] for b in rows],
        )

    def margin_and_nats(self, b: int) -> tuple[Tensor, Tensor]:
        """Of one slot, on the CPU, no gradient, whatever the temperature."""
        return self.scores[b].margin.detach().cpu(), self.scores[b].nats.cpu()


def make_prompt(lm: FrozenLM, slot: Slot, trained: Parameters) -> Tensor:
    """(K, D): the slot's parameterisation of these tensors, rounded to its serving dtype."""
    recipe = slot.recipe.parameterisation
    return serve(PARAMETERISATIONS[recipe.name].prompt(lm, slot.constant | trained), recipe.serving_dtype)


def begin_training(lm: FrozenLM, slot: Slot, start_KD: Tensor) -> None:
    """Set a slot's trained tensors so that they make `start_KD`, and whatever its recipes train beside the prompt."""
    recipe = slot.recipe.parameterisation
    trained, constant = PARAMETERISATIONS[recipe.name].start(lm, start_KD, recipe, slot.generator)
    if any(r.context.name in SOFT and r.context.learn_temperature for r in slot.recipes):
        trained["log_temperature"] = torch.zeros(1, device=lm.device)
    if any(r.terms.professor_forcing != 0 for r in slot.recipes):
        trained["judge_weight"] = torch.zeros(lm.hidden_size, device=lm.device)
        trained["judge_bias"] = torch.zeros(1, device=lm.device)
    slot.begin(trained, constant)
    slot.prompt_KD = make_prompt(lm, slot, slot.trained)


def positions_of(slot: Slot) -> float:
    """What this step of a slot costs, in positions."""
    return step_positions(slot.recipe, term_weights(slot), slot.job.num_vectors, slot.lesson.window)


def term_weights(slot: Slot) -> dict[str, float]:
    """Weight of every term that is due at the slot's step; the main loss is among them."""
    recipe = slot.recipe
    weights = {name: _at(slot, getattr(recipe.terms, name)) for name in TERM_NAMES}
    if slot.step % recipe.knobs.autoregressive_every:
        weights["autoregressive"] = 0.0
    weights[recipe.loss.name] += _at(slot, recipe.loss.weight)
    return {name: weight for name, weight in weights.items() if weight}


def descend(lm: FrozenLM, slots: list[Slot], measured: Measured) -> tuple[list[Parameters], Tensor]:
    """Gradients of every slot's loss by its trained tensors, and what of the losses could come to 0, (B,).

    Args:
        slots: that go on; all read the same way.
        measured: their measured pass, with gradient where the slots train on it.
    """
    view = _training_view(lm, slots, measured)
    weights = [term_weights(slot) for slot in slots]
    loss_B = _weighed(view, weights)
    excess_B = loss_B.detach()
    if any(ENDLESS_TERMS & by_name.keys() for by_name in weights):
        excess_B = _weighed(view, [_without(by_name, ENDLESS_TERMS) for by_name in weights]).detach()
    references = [slot.recipe.optim.align_to for slot in slots]
    is_aligned = any(name != "none" for name in references)
    gradients = _gradients(loss_B.sum(), measured.leaves, keep=is_aligned)
    if is_aligned:
        reference_B = _weighed(view, [{name: 1.0} if name != "none" else {} for name in references])
        for b, reference in enumerate(_gradients(reference_B.sum(), measured.leaves, keep=False)):
            if references[b] != "none":
                gradients[b] = _aligned(gradients[b], reference)
    for slot, text in zip(slots, view.texts, strict=True):
        if text.samples is not None:
            decay = slot.recipe.knobs.baseline_decay
            slot.baseline = decay * slot.baseline + (1 - decay) * float(text.samples.reward_n.mean())
    return gradients, excess_B


def _without(weights: dict[str, float], names: Set[str]) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if name not in names}


def _training_view(lm: FrozenLM, slots: list[Slot], measured: Measured) -> View:
    """The pass the terms look at: the measured one, or the policy's own."""
    settings = [setting_at(slot.recipe.context, slot.clock, slot.job.recipe.max_steps) for slot in slots]
    targets = [slot.target_T[: slot.lesson.window] for slot in slots]
    prompts, hidden, scores = measured.prompts, measured.hidden, measured.scores
    if has_own_pass(slots[0].recipe):
        noise = [_noise(lm, slot) for slot in slots]
        prompts = [p_KD if n is None else p_KD + n[0] for p_KD, n in zip(prompts, noise, strict=True)]
        texts = Texts(
            prompts, targets, settings, [slot.generator for slot in slots],
            read_noise=[None if n is None else n[1] for n in noise],
            log_temperatures=[leaf.get("log_temperature") if slot.recipe.context.learn_temperature else None
                              for slot, leaf in zip(slots, measured.leaves, strict=True)],
        )  # fmt: skip
        hidden, scores = _scored(lm, POLICIES[slots[0].recipe.context.name](lm, texts), targets, slots)
    views = []
    for b, slot in enumerate(slots):
        leaf, loss = measured.leaves[b], slot.recipe.loss
        given = num_given(slot.recipe.context.name, settings[b], len(targets[b]))
        weight_T = slot.focus_T[: len(targets[b])] * position_weights(
            measured.scores[b].margin.detach(), num_leading=loss.num_leading,
            leading_weight=loss.leading_weight, prefix_weight=loss.prefix_weight,
        )  # fmt: skip
        weight_T[given:] = 0.0
        views.append(
            TextView(
                prompts[b],
                targets[b],
                scores[b],
                hidden[b],
                given,
                slot.recipe.knobs,
                slot.generator,
                weight_T,
                margin=loss.margin * _at(slot, loss.margin_factor),
                p=loss.p,
                gamma=loss.gamma,
                judge=(leaf["judge_weight"], leaf["judge_bias"]) if "judge_weight" in leaf else None,
                baseline=slot.baseline,
                lead_T=_leads(lm, slot, hidden[b], targets[b], scores[b]) if slot.recipe.proof == "beam" else None,
            )  # fmt: skip
        )
    return View(lm, views)


def _leads(lm: FrozenLM, slot: Slot, hidden_TD: Tensor, target_T: Tensor, scores_T: Scores) -> Tensor:
    """The target's lead over every text that first differs at a position, (T,), nats: `Certificate.lead` by token.

    Like margins, leads are the model's own, whatever the temperature of the likelihoods.
    """
    is_plain = _at(slot, slot.recipe.loss.temperature) == 1
    nll_T = (scores_T if is_plain else lm.head.score(hidden_TD, target_T)).nll
    return slacks(nll_T) - nll_T.sum() * slot.job.overrun / len(slot.target_T)


def _weighed(view: View, weights: list[dict[str, float]]) -> Tensor:
    """Sum of each text's weighted terms, (B,); a term is computed on the texts that weigh it."""
    loss_B = torch.zeros(len(weights), device=view.lm.device)
    # Sampled terms last and in one order, so that a slot's stream does not depend on its company.
    names = {name for by_name in weights for name in by_name}
    for name in sorted(names, key=lambda name: (name in SAMPLE_TERMS, name)):
        rows = [b for b, by_name in enumerate(weights) if name in by_name]
        weight_M = torch.tensor([weights[b][name] for b in rows], device=view.lm.device)
        value_M = TERMS[name](view.take(rows)).float() * weight_M
        loss_B = loss_B.index_add(0, torch.tensor(rows, device=view.lm.device), value_M)
    return loss_B


def _gradients(loss: Tensor, leaves: list[Parameters], *, keep: bool) -> list[Parameters]:
    """Gradients by leaf, zero where the loss does not reach one."""
    flat = [tensor for leaf in leaves for tensor in leaf.values()]
    # Where no term is due at this step the loss is a constant, which autograd refuses.
    reached = torch.autograd.grad(loss, flat, retain_graph=keep, allow_unused=True) if loss.requires_grad else ()
    grads = chain(reached, repeat(None))
    return [
        {name: torch.zeros_like(tensor) if (grad := next(grads)) is None else grad for name, tensor in leaf.items()}
        for leaf in leaves
    ]


def _aligned(gradient: Parameters, reference: Parameters) -> Parameters:
    names = list(gradient)
    flat = aligned(*(torch.cat([g[name].flatten() for name in names]) for g in (gradient, reference)))
    parts = flat.split([gradient[name].numel() for name in names])
    return {name: part.reshape(gradient[name].shape) for name, part in zip(names, parts, strict=True)}


def _noise(lm: FrozenLM, slot: Slot) -> tuple[Tensor, Tensor] | None:
    """Noise on the prompt and on what is read, (K, D) and (T, D)."""
    noise = slot.recipe.noise
    if noise.kind == "none":
        return None
    sizes: list[tuple[int, Value]] = [(slot.job.num_vectors, noise.prompt), (slot.lesson.window, noise.read)]
    on_prompt, on_read = (
        gaussian_noise(
            rows, lm.hidden_size, sigma=_at(slot, sigma) * lm.embed_rms, is_sampled=noise.kind == "sampled",
            generator=slot.generator,
        ).to(lm.device)
        for rows, sigma in sizes
    )  # fmt: skip
    return on_prompt, on_read


def _at(slot: Slot, value: Value) -> float:
    return build_schedule(value, slot.job.recipe.max_steps)(slot.clock)


def _scored(
    lm: FrozenLM, hidden_ND: Tensor, targets: list[Tensor], slots: list[Slot]
) -> tuple[list[Tensor], list[Scores]]:
    lengths = [len(target_T) for target_T in targets]
    sharpness = [1 / _at(slot, slot.recipe.loss.temperature) for slot in slots]
    sharpness_N = None
    if any(value != 1 for value in sharpness):
        sharpness_N = torch.tensor(sharpness, device=lm.device).repeat_interleave(
            torch.tensor(lengths, device=lm.device), output_size=len(hidden_ND)
        )
    scores_N = lm.head.score(hidden_ND, torch.cat(targets), sharpness_N)
    columns = zip(*(column.split(lengths) for column in scores_N), strict=True)
    return list(hidden_ND.split(lengths)), [Scores(*column) for column in columns]
