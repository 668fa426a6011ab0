"""Contexts that are mixtures of embeddings, made step by step.

Owns: how each such policy makes what it reads. Must not know: losses, slots, optimisers.

These policies keep the gradient through every step.

B texts, T target tokens, N positions of all texts, D hidden size, V vocabulary.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from engine.contexts.texts import Texts
from engine.decoding.likely import likely
from engine.decoding.trajectory import trajectory
from engine.frozen_lm import FrozenLM


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

    return torch.cat(texts.unpadded(trajectory(lm, texts.prompts, texts.longest, next_read)))


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
