"""Contexts that are the truth, or chosen: coins, argmax, samples.

Owns: how each such policy makes what it reads. Must not know: losses, slots, optimisers.

Choices carry no gradient: these policies first walk without one, then read what they chose in a single pass.

B texts, T target tokens, N positions of all texts, D hidden size, V vocabulary.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from engine.contexts.texts import Texts
from engine.decoding.trajectory import draw_tokens, trajectory
from engine.frozen_lm import FrozenLM


def teacher_forcing(lm: FrozenLM, texts: Texts) -> Float[Tensor, "N D"]:
    """Read the ground truth, `E[y[t-1]]`."""
    return lm.read(texts.prompts, texts.noisy(lm.embed_targets(texts.targets)))


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
    return lm.read(texts.prompts, texts.noisy(contexts))


def _uniform(texts: Texts, draws: list[bool]) -> Tensor:
    """Uniform numbers of each text's own stream, (B, T); zeros for texts that draw none. Padding is never used."""
    rows = [
        torch.rand(len(target_T), generator=generator) if is_drawn else torch.zeros(len(target_T))
        for target_T, generator, is_drawn in zip(texts.targets, texts.generators, draws, strict=True)
    ]
    return pad_sequence(rows, batch_first=True).to(texts.prompts[0].device)


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
    return lm.read(texts.prompts, texts.noisy(texts.unpadded(torch.stack(chosen, 1))))
