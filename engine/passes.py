"""A pass over slots: their trained tensors as leaves, the prompts these make, and what the model says of their targets.

Owns: which slots share a pass, the measured pass, the pass along a context policy, what the host is told of either.
Must not know: losses, steps.

All slots of a pass are handled together, as rows and columns. The host waits for the device once a pass, where it reads
the certificates.

B slots, K soft-prompt vectors, T tokens of a slot's window, D hidden size; R vectors and N tokens of all slots.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from engine.certificate import Certificate, certify_all
from engine.contexts import Texts, policy_of, setting_at
from engine.frozen_lm import FrozenLM
from engine.head import Scores
from engine.layout import to_device
from engine.noise import gaussian_noise
from engine.packing import PADDING_FRAC
from engine.parameterisation import PARAMETERISATIONS, Parameters, serve
from engine.schedules import Value
from engine.slots import Slot
from engine.stacks import stacks_of


class Begun:
    """B slots before they are read: their trained tensors as leaves, and the prompts these make."""

    def __init__(self, lm: FrozenLM, slots: list[Slot]):
        self.lm, self.slots, self.stacks = lm, slots, stacks_of(slots)
        self.targets = [slot.target_T[: slot.lesson.window] for slot in slots]
        self.num_vectors = [slot.job.num_vectors for slot in slots]
        self.lengths = [slot.lesson.window for slot in slots]
        self.layout = lm.lay_out(self.num_vectors, self.lengths)

    @cached_property
    def target_N(self) -> Tensor:
        """The windows' tokens, one slot after the other."""
        return torch.cat(self.targets)

    @cached_property
    def trained(self) -> list[Parameters]:
        """Every slot's own part of the leaves, by name."""
        trained: list[Parameters] = [{} for _ in self.slots]
        for stack in self.stacks:
            for entry, tensor in stack.tensors():
                trained[entry.row][entry.name] = tensor
        return trained

    @cached_property
    def prompts_RD(self) -> Float[Tensor, "R D"]:
        """The soft prompts, one slot after the other."""
        for stack in self.stacks:
            if stack.is_prompts and len(stack.entries) == len(self.slots):
                return stack.value_RW
        return torch.cat([make_prompt(self.lm, s, t) for s, t in zip(self.slots, self.trained, strict=True)])

    @cached_property
    def prompts(self) -> list[Tensor]:
        return list(self.prompts_RD.split(self.num_vectors))


@dataclass(frozen=True)
class Pass:
    """Scores of B slots, at the temperatures of their losses.

    Attributes:
        begun: the slots, their leaves and prompts.
        hidden_ND: states that predict the windows' tokens.
        scores_N: theirs.
        noisy: (K_b, D) each, the prompts with their noise; None where there is none.
    """

    begun: Begun
    hidden_ND: Tensor
    scores_N: Scores
    noisy: list[Tensor] | None = None

    @property
    def slots(self) -> list[Slot]:
        return self.begun.slots

    @property
    def prompts(self) -> list[Tensor]:
        """(K_b, D) each, as they were read."""
        return self.begun.prompts if self.noisy is None else self.noisy

    @cached_property
    def mask_BT(self) -> Tensor:
        """True on real positions."""
        length_B1 = to_device(np.asarray(self.begun.lengths), self.begun.lm.device)[:, None]
        return torch.arange(max(self.begun.lengths), device=self.begun.lm.device) < length_B1

    def side_by_side(self, value_N: Shaped[Tensor, "N"]) -> Shaped[Tensor, "B T"]:
        """A number of each position, zero-padded."""
        shape = len(self.slots), max(self.begun.lengths)
        return value_N.new_zeros(shape[0] * shape[1]).index_copy(0, self.begun.layout.in_tokens, value_N).view(shape)

    def to_host(self) -> tuple[list[Certificate], Float[Tensor, "B T"]]:
        """What the pass proves of each slot, and all margins, on the CPU: the one place where the host waits."""
        numbers = [self.scores_N.margin.detach(), self.scores_N.nats]
        margin_BT, nats_BT = torch.stack([self.side_by_side(number_N) for number_N in numbers]).cpu()
        lengths = torch.tensor(self.begun.lengths)
        is_measured_BT = torch.arange(margin_BT.shape[1]) < lengths[:, None]
        num_tokens = [len(slot.target_T) for slot in self.slots]
        return certify_all(margin_BT, nats_BT, is_measured_BT, num_tokens), margin_BT


def measure(lm: FrozenLM, slots: list[Slot], *, keeps_gradient: bool) -> Pass:
    """Teacher-forced scores of slots on their clean prompts."""
    begun = Begun(lm, slots)
    with torch.set_grad_enabled(keeps_gradient):
        contexts_ND = lm.embed(begun.target_N)
        hidden_ND = lm.read_rows(begun.prompts_RD, contexts_ND, begun.layout)
    return _scored(begun, hidden_ND)


def read_own_way(lm: FrozenLM, slots: list[Slot]) -> Pass:
    """Scores of slots along what their context policy reads, noise included; all have the same policy."""
    begun = Begun(lm, slots)
    settings = [setting_at(slot.recipe.context, slot.clock, slot.job.recipe.max_steps) for slot in slots]
    noise = [_noise(lm, slot) for slot in slots]
    prompts = [p_KD if n is None else p_KD + n[0] for p_KD, n in zip(begun.prompts, noise, strict=True)]
    texts = Texts(
        prompts, begun.targets, settings, [slot.generator for slot in slots],
        read_noise=[None if n is None else n[1] for n in noise],
        log_temperatures=[leaf.get("log_temperature") if slot.recipe.context.learn_temperature else None
                          for slot, leaf in zip(slots, begun.trained, strict=True)],
    )  # fmt: skip
    return _scored(begun, policy_of(slots[0].recipe.context).read(lm, texts), prompts)


def _scored(begun: Begun, hidden_ND: Tensor, noisy: list[Tensor] | None = None) -> Pass:
    lm, sharpness_N = begun.lm, None
    sharpness = [1 / slot.at(slot.recipe.loss.temperature) for slot in begun.slots]
    if any(value != 1 for value in sharpness):
        sharpness_N = to_device(np.repeat(sharpness, begun.lengths).astype(np.float32), lm.device)
    return Pass(begun, hidden_ND, lm.head.score(hidden_ND, begun.target_N, sharpness_N), noisy)


def make_prompt(lm: FrozenLM, slot: Slot, trained: Parameters) -> Float[Tensor, "K D"]:
    """The slot's parameterisation of these tensors, rounded to its serving dtype."""
    recipe = slot.recipe.parameterisation
    return serve(PARAMETERISATIONS[recipe.name].prompt(lm, slot.constant | trained), recipe.serving_dtype)


def begin_training(lm: FrozenLM, slot: Slot, start_KD: Tensor) -> None:
    """Set a slot's trained tensors so that they make `start_KD`, and whatever its recipes train beside the prompt."""
    recipe = slot.recipe.parameterisation
    trained, constant = PARAMETERISATIONS[recipe.name].start(lm, start_KD, recipe, slot.generator)
    if any(policy_of(r.context).is_soft and r.context.learn_temperature for r in slot.recipes):
        trained["log_temperature"] = torch.zeros(1, device=lm.device)
    if any(r.terms.professor_forcing != 0 for r in slot.recipes):
        trained["judge_weight"] = torch.zeros(lm.hidden_size, device=lm.device)
        trained["judge_bias"] = torch.zeros(1, device=lm.device)
    slot.begin(trained, constant)
    slot.prompt_KD = make_prompt(lm, slot, slot.trained)


def _noise(lm: FrozenLM, slot: Slot) -> tuple[Tensor, Tensor] | None:
    """Noise on the prompt and on what is read, (K, D) and (T, D)."""
    noise = slot.recipe.noise
    if noise.kind == "none":
        return None
    sizes: list[tuple[int, Value]] = [(slot.job.num_vectors, noise.prompt), (slot.lesson.window, noise.read)]
    on_prompt, on_read = (
        gaussian_noise(
            rows, lm.hidden_size, sigma=slot.at(sigma) * lm.embed_rms, is_sampled=noise.kind == "sampled",
            generator=slot.generator,
        ).to(lm.device)
        for rows, sigma in sizes
    )  # fmt: skip
    return on_prompt, on_read


def packs(
    slots: list[Slot], table_positions: int, *, packs_up_to: int = 0, padding_frac: float = PADDING_FRAC
) -> list[list[Slot]]:
    """Slots grouped into passes: similar lengths together, size within the budget.

    A slot longer than the budget passes alone.

    Args:
        packs_up_to: positions of the longest slot that shares a row with others; longer ones are padded, which counts.
        padding_frac: padding accepted, as a share of a pass with every slot padded to its longest.
    """
    groups: list[list[Slot]] = []
    longest = real = 0
    for length, slot in sorted(((slot.num_positions, slot) for slot in slots), key=lambda pair: -pair[0]):
        real += length
        padded = longest * (len(groups[-1]) + 1) if groups else real
        size = padded if longest > packs_up_to else real
        if groups and size <= table_positions and padded - real <= padding_frac * padded:
            groups[-1].append(slot)
        else:
            groups.append([slot])
            longest = real = length
    return groups
