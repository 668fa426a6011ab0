"""Each context policy by its formula: one text at a time, everything read again for every token, no cache."""

import torch
from torch import Tensor

from engine.contexts import Setting, Texts
from engine.frozen_lm import FrozenLM
from tests.engine.contexts.variants import SOFT
from tests.engine.slow import seeded, slow_walk


def own_token(lm: FrozenLM, hidden_D: Tensor, setting: Setting, uniform: float) -> Tensor:
    """The token a hard policy takes for the model's own: the likeliest, or the drawn one by inversion."""
    p_V = lm.head.logits(hidden_D[None])[0].double().softmax(0)
    if not setting.samples_own:
        return p_V.argmax()
    return (p_V.cumsum(0) <= uniform).sum()


def slow_guided(p_V: Tensor, target: int, setting: Setting) -> Tensor:
    is_target_V = torch.arange(len(p_V)) == target
    alpha = setting.guidance_alpha
    if not setting.clamps:
        return alpha * is_target_V + (1 - alpha) * p_V
    if p_V[target] >= alpha:
        return p_V
    return torch.where(is_target_V, alpha, p_V * (1 - alpha) / p_V[~is_target_V].sum())


def slow_soft(lm: FrozenLM, logits_V: Tensor, setting: Setting, temperature: Tensor) -> Tensor:
    p_V = logits_V.detach().softmax(0)
    kept_V = p_V >= setting.min_p * p_V.max()
    if setting.top_k:
        num_above_V = (logits_V[:, None] < logits_V[None]).sum(1)
        kept_V &= num_above_V < setting.top_k
    weight_V = torch.where(kept_V, ((logits_V - logits_V.max()) / temperature).exp(), 0.0)
    return weight_V / weight_V.sum()


def slow_gumbel(lm: FrozenLM, logits_V: Tensor, setting: Setting, temperature: Tensor, seed: int) -> Tensor:
    gumbel_V = -(-torch.rand(len(logits_V), generator=seeded(seed)).double().log()).log()
    soft_V = ((logits_V.log_softmax(0) + gumbel_V) / temperature).softmax(0)
    if not setting.straight_through:
        return soft_V
    hard_V = torch.eye(len(soft_V), dtype=soft_V.dtype)[soft_V.argmax()]
    return hard_V + soft_V - soft_V.detach()


def slow_two_pass(lm, prompt_KD, truth_TD, setting, generator) -> Tensor:
    context_TD = truth_TD
    for _ in range(setting.num_passes):
        context_TD, read_TD = truth_TD.clone(), context_TD
        states_TD, _ = slow_walk(lm, prompt_KD, len(truth_TD), lambda t, hidden_D, read_TD=read_TD: read_TD[t])
        for t, is_truth in enumerate((torch.rand(len(truth_TD), generator=generator) < setting.eps).tolist()):
            if not is_truth:
                context_TD[t] = lm.embed(lm.head.logits(states_TD[t : t + 1]).argmax())
    return context_TD


def slow_policy(lm: FrozenLM, name: str, texts: Texts, b: int) -> tuple[Tensor, list[Tensor]]:
    """States of text b by the formula of a policy, and the contexts that were read, both with their gradients."""
    prompt_KD, target_T, setting, generator = (
        column[b] for column in (texts.prompts, texts.targets, texts.settings, texts.generators)
    )
    num_tokens, log_temperature = len(target_T), texts.log_temperatures[b]
    truth_TD = lm.embed(target_T)
    every_VD = lm.embed(torch.arange(lm.vocab_size))
    temperature = torch.tensor(setting.temperature, dtype=torch.float64)
    if log_temperature is not None:
        temperature = temperature * log_temperature[0].exp()
    # Drawn in the order in which the policies draw: that order is part of what makes a run repeatable.
    is_truth_T, uniform_T, seed_T = torch.ones(num_tokens), torch.zeros(num_tokens), torch.zeros(num_tokens)
    if name == "scheduled_sampling":
        is_truth_T = torch.rand(num_tokens, generator=generator) < setting.eps
    if name in ("scheduled_sampling", "embedding_mix", "free_running") and setting.samples_own:
        uniform_T = torch.rand(num_tokens, generator=generator)
    if name in SOFT:
        seed_T = torch.randint(2**62, (num_tokens,), generator=generator)
    if name == "two_pass":
        truth_TD = slow_two_pass(lm, prompt_KD, truth_TD, setting, generator)

    def choose(t: int, hidden_D: Tensor) -> Tensor:
        if name in ("teacher_forcing", "mixer", "two_pass"):
            return truth_TD[t]
        if name in SOFT:
            logits_V = lm.head.logits(hidden_D[None])[0].double()
            if name == "soft_decoding":
                p_V = slow_soft(lm, logits_V, setting, temperature)
            else:
                p_V = slow_gumbel(lm, logits_V, setting, temperature, int(seed_T[t]))
            return slow_guided(p_V, int(target_T[t]), setting) @ every_VD
        own_D = lm.embed(own_token(lm, hidden_D, setting, uniform_T[t].item()))
        if name == "embedding_mix":
            return setting.eps * truth_TD[t] + (1 - setting.eps) * own_D
        return truth_TD[t] if name == "scheduled_sampling" and is_truth_T[t] else own_D

    noise_TD = texts.read_noise[b]
    return slow_walk(
        lm, prompt_KD, num_tokens, lambda t, h_D: choose(t, h_D) + (0 if noise_TD is None else noise_TD[t])
    )
