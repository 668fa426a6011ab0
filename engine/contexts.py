"""Context policies: what the model reads at target positions while a prompt is trained.

Owns: how each policy makes the contexts it reads, or reads as it goes. Must not know: losses, slots, optimisers.

A policy takes B texts and returns the hidden states that predict their target tokens, aligned by `FrozenLM.read`.
Whatever is random is drawn from the text's own generator, so a text gets the same context alone and in company.
Choices (coins, argmax, samples) carry no gradient: such policies first walk without one, then read what they chose
in a single pass. Soft policies keep the gradient through every step.

B texts, K soft-prompt vectors, T target tokens, N positions of all texts, D hidden size, V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from engine.decoding.likely import likely
from engine.decoding.trajectory import draw_tokens, trajectory
from engine.frozen_lm import FrozenLM
from engine.recipe.sections import ContextRecipe
from engine.schedules import build_schedule


class Setting(NamedTuple):
    """One text's values of the policy at one step; what they mean stands in `ContextRecipe`."""

    eps: float
    temperature: float
    guidance_alpha: float
    forced_frac: float
    num_passes: int
    samples_own: bool
    top_k: int
    min_p: float
    clamps: bool
    straight_through: bool


def setting_at(context: ContextRecipe, clock: float, max_steps: int) -> Setting:
    """Schedules evaluated at a slot's clock."""
    values = (context.eps, context.temperature, context.guidance_alpha, context.forced_frac)
    eps, temperature, alpha, forced = (build_schedule(value, max_steps)(clock) for value in values)
    return Setting(
        eps, temperature, alpha, forced, context.num_passes, context.own_token == "sample",
        context.top_k, context.min_p, context.guidance == "clamp", context.straight_through,
    )  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """B texts as a policy meets them.

    Attributes:
        prompts: (K_b, D) each, differentiable in what is trained.
        targets: (T_b,) token ids each.
        settings: the policy's values, a text each.
        generators: a random stream a text.
        read_noise: (T_b, D) added to what is read, or None.
        log_temperatures: learned factors on the temperature, scalars; None where it is not learned.
    """

    prompts: list[Tensor]
    targets: list[Tensor]
    settings: list[Setting]
    generators: list[torch.Generator]
    read_noise: list[Tensor | None]
    log_temperatures: list[Tensor | None]

    @property
    def longest(self) -> int:
        return max(len(target_T) for target_T in self.targets)

    def column(self, name: str) -> Tensor:
        """One value of all settings, (B, 1), float32."""
        values = [float(getattr(setting, name)) for setting in self.settings]
        return torch.tensor(values, device=self.prompts[0].device)[:, None]

    def noise_BTD(self) -> Tensor | None:
        """Read noise of all texts, zero-padded; None if there is none."""
        if all(noise_TD is None for noise_TD in self.read_noise):
            return None
        size = self.prompts[0].shape[1]
        rows = [
            self.prompts[b].new_zeros(len(self.targets[b]), size) if noise_TD is None else noise_TD
            for b, noise_TD in enumerate(self.read_noise)
        ]
        return pad_sequence(rows, batch_first=True)


def teacher_forcing(lm: FrozenLM, texts: Texts) -> Float[Tensor, "N D"]:
    """Read the ground truth, `E[y[t-1]]`."""
    return lm.read(texts.prompts, _noisy(lm.embed_targets(texts.targets), texts))


def scheduled_sampling(lm: FrozenLM, texts: Texts) -> Float[Tensor, "N D"]:
    """Per position a coin: the ground truth with probability eps, else the model's own token.

    The coin and the token carry no gradient. Improper for annealed eps: the target of a position stays y[t] whatever
    was read before it, so at eps = 0 the optimum ignores the prefix (Huszar 2015, 1511.05101).
    Source: Bengio et al. 2015, 1506.03099.
    """
    coins_BT = _uniform(texts, [True] * len(texts.targets)) < texts.column("eps")
    return _walk_then_read(lm, texts, lambda t, truth_BD, own_BD: torch.where(coins_BT[:, t, None], truth_BD, own_BD))


def embedding_mix(lm: FrozenLM, texts: Texts) -> Float[Tensor, "N D"]:
    """Read `eps * E[y[t-1]] + (1 - eps) * E[own token]`, along the trajectory that this makes. Source: ours."""
    eps_B1 = texts.column("eps")
    return _walk_then_read(lm, texts, lambda t, truth_BD, own_BD: eps_B1 * truth_BD + (1 - eps_B1) * own_BD)


def free_running(lm: FrozenLM, texts: Texts) -> Float[Tensor, "N D"]:
    """Read the model's own token, `E[argmax z[t-1]]`, everywhere."""
    return _walk_then_read(lm, texts, lambda t, truth_BD, own_BD: own_BD)


def two_pass(lm: FrozenLM, texts: Texts) -> Float[Tensor, "N D"]:
    """Scheduled sampling without the walk: predictions of a parallel pass stand in for the model's own tokens.

    Source: Mihaylova & Martins 2019, 1906.07651; Duckworth et al. 2019, 1906.04331.
    """
    truth = lm.embed_targets(texts.targets)
    lengths = [len(target_T) for target_T in texts.targets]
    contexts = truth
    for number in range(max(setting.num_passes for setting in texts.settings)):
        with torch.no_grad():
            predicted_N = lm.head.logits(lm.read(texts.prompts, contexts)).argmax(-1)
        own = lm.embed(predicted_N).split(lengths)
        coins = [
            torch.rand(length, generator=generator).to(lm.device) < setting.eps if number < setting.num_passes else None
            for length, setting, generator in zip(lengths, texts.settings, texts.generators, strict=True)
        ]
        contexts = [
            context_TD if coin_T is None else torch.where(coin_T[:, None], truth_TD, own_TD)
            for context_TD, coin_T, truth_TD, own_TD in zip(contexts, coins, truth, own, strict=True)
        ]
    return lm.read(texts.prompts, _noisy(contexts, texts))


def soft_decoding(lm: FrozenLM, texts: Texts) -> Float[Tensor, "N D"]:
    """Read the expected embedding `p @ E`, `p = softmax(z / temperature)` after top-k and min-p, with guidance.

    Guidance `mix` reads alpha of the ground truth; `clamp` lifts p[y] to at least alpha and renormalises the rest.
    """
    return _soft_walk(lm, texts, draws=False)


def gumbel_softmax(lm: FrozenLM, texts: Texts) -> Float[Tensor, "N D"]:
    """Read `p @ E` with `p = softmax((log softmax(z) + g) / temperature)`, g ~ Gumbel(0, 1).

    Straight-through reads the drawn token and sends back the gradient of p.
    Source: Jang et al. 2017, 1611.01144.
    """
    return _soft_walk(lm, texts, draws=True)


Policy = Callable[[FrozenLM, Texts], Tensor]

POLICIES: dict[str, Policy] = {
    "teacher_forcing": teacher_forcing,
    "scheduled_sampling": scheduled_sampling,
    "embedding_mix": embedding_mix,
    "two_pass": two_pass,
    "free_running": free_running,
    "mixer": teacher_forcing,  # its given part; `num_given` says how long it is, a reward term trains the rest
    "soft_decoding": soft_decoding,
    "gumbel_softmax": gumbel_softmax,
}

SOFT = ("soft_decoding", "gumbel_softmax")
"""Policies whose temperature can be learned."""

WALKING = ("scheduled_sampling", "embedding_mix", "free_running")
"""Policies that first walk without a gradient."""


def num_given(name: str, setting: Setting, num_tokens: int) -> int:
    """Leading target positions that the main loss scores: all of them, but for MIXER's own tail.

    Source: Ranzato et al. 2016, 1511.06732.
    """
    return max(0, min(num_tokens, math.ceil(setting.forced_frac * num_tokens))) if name == "mixer" else num_tokens


def _noisy(contexts: list[Tensor], texts: Texts) -> list[Tensor]:
    return [
        context_TD if noise_TD is None else context_TD.float() + noise_TD
        for context_TD, noise_TD in zip(contexts, texts.read_noise, strict=True)
    ]


def _uniform(texts: Texts, draws: list[bool]) -> Tensor:
    """Uniform numbers of each text's own stream, (B, T); zeros for texts that draw none. Padding is never used."""
    rows = [
        torch.rand(len(target_T), generator=generator) if is_drawn else torch.zeros(len(target_T))
        for target_T, generator, is_drawn in zip(texts.targets, texts.generators, draws, strict=True)
    ]
    return pad_sequence(rows, batch_first=True).to(texts.prompts[0].device)


def _ungathered(rows_BTD: Tensor, texts: Texts) -> list[Tensor]:
    return [row_TD[: len(target_T)] for row_TD, target_T in zip(rows_BTD, texts.targets, strict=True)]


def _walk_then_read(lm: FrozenLM, texts: Texts, choose: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
    """Walk without gradient, `choose(t, truth_BD, own_BD)` at every step, then read what was chosen in one pass."""
    truth_BTD = pad_sequence(lm.embed_targets(texts.targets), batch_first=True).float()
    samples_B = texts.column("samples_own")[:, 0] > 0
    draws = [setting.samples_own for setting in texts.settings]
    uniform_BT = _uniform(texts, draws) if any(draws) else None
    noise_BTD = texts.noise_BTD()
    chosen: list[Tensor] = []

    def next_read(t: int, hidden_BD: Tensor) -> Tensor:
        logits_BV = lm.head.logits(hidden_BD)
        own_B = logits_BV.argmax(-1)
        if uniform_BT is not None:
            own_B = torch.where(samples_B, draw_tokens(logits_BV, uniform_BT[:, t]), own_B)
        chosen.append(choose(t, truth_BTD[:, t], lm.embed(own_B).float()))
        return chosen[-1] if noise_BTD is None else chosen[-1] + noise_BTD[:, t]

    with torch.no_grad():
        trajectory(lm, texts.prompts, texts.longest, next_read)
    chosen.append(truth_BTD[:, -1])  # never read
    return lm.read(texts.prompts, _noisy(_ungathered(torch.stack(chosen, 1), texts), texts))


def _soft_walk(lm: FrozenLM, texts: Texts, *, draws: bool) -> Tensor:
    """Read mixtures of embeddings step by step, gradients kept; probabilities are computed again in backward."""
    targets_BT = pad_sequence(texts.targets, batch_first=True)
    noise_BTD = texts.noise_BTD()
    seeds = [torch.randint(2**62, (len(y),), generator=g) for y, g in zip(texts.targets, texts.generators, strict=True)]
    seeds_BT = pad_sequence(seeds, batch_first=True)
    learned = [texts.prompts[0].new_zeros(()) if log is None else log.reshape(()) for log in texts.log_temperatures]
    temperature_B1 = texts.column("temperature") * torch.stack(learned)[:, None].exp()

    def read(hidden_BD: Tensor, temperature_B1: Tensor, t: int) -> Tensor:
        logits_BV = lm.head.logits(hidden_BD)
        if draws:
            p_BV = _gumbel_p(logits_BV, temperature_B1, seeds_BT[:, t], texts)
        else:
            # Masked after the division: -inf over a learned temperature would have no gradient.
            is_kept_BV = likely(logits_BV, texts.column("top_k"), texts.column("min_p"))
            p_BV = (logits_BV / temperature_B1).masked_fill(~is_kept_BV, float("-inf")).softmax(-1)
        p_BV = guide(p_BV, targets_BT[:, t], texts.column("guidance_alpha"), texts.column("clamps") > 0)
        return lm.mix(p_BV)

    def next_read(t: int, hidden_BD: Tensor) -> Tensor:
        read_BD = checkpoint(read, hidden_BD, temperature_B1, t, use_reentrant=False)
        assert isinstance(read_BD, Tensor)
        return read_BD if noise_BTD is None else read_BD + noise_BTD[:, t]

    return torch.cat(_ungathered(trajectory(lm, texts.prompts, texts.longest, next_read), texts))


def guide(
    p_BV: Float[Tensor, "B V"], target_B: Tensor, alpha_B1: Float[Tensor, "B 1"], clamps_B1: Tensor
) -> Float[Tensor, "B V"]:
    """Probabilities led towards the target: `mix` adds alpha of it, `clamp` lifts it to at least alpha."""
    if not (alpha_B1 > 0).any():
        return p_BV
    is_target_BV = torch.zeros_like(p_BV, dtype=torch.bool).scatter(1, target_B[:, None], True)
    mixed_BV = alpha_B1 * is_target_BV + (1 - alpha_B1) * p_BV
    own_B1 = p_BV.gather(1, target_B[:, None])
    shrink_B1 = (1 - alpha_B1) / (1 - own_B1).clamp_min(1e-12)
    lifted_BV = torch.where(is_target_BV, alpha_B1, p_BV * shrink_B1)
    clamped_BV = torch.where(own_B1 >= alpha_B1, p_BV, lifted_BV)
    return torch.where(clamps_B1, clamped_BV, mixed_BV)


def gumbel_noise(seed: int, size: int) -> Float[Tensor, "V"]:
    """`-log(-log(u))`, u uniform: one vocabulary's worth from its own seed, so that it can be drawn again."""
    uniform_V = torch.rand(size, generator=torch.Generator().manual_seed(seed)).clamp_min(1e-20)
    return -(-uniform_V.log()).clamp_min(1e-20).log()


def _gumbel_p(logits_BV: Tensor, temperature_B1: Tensor, seed_B: Tensor, texts: Texts) -> Tensor:
    noise_BV = torch.stack([gumbel_noise(int(seed), logits_BV.shape[1]) for seed in seed_B]).to(logits_BV.device)
    soft_BV = ((logits_BV.log_softmax(-1) + noise_BV) / temperature_B1).softmax(-1)
    hard_BV = torch.zeros_like(soft_BV).scatter(1, soft_BV.argmax(-1, keepdim=True), 1.0)
    through_BV = hard_BV + soft_BV - soft_BV.detach()
    return torch.where(texts.column("straight_through") > 0, through_BV, soft_BV)
