"""The published systems, and our own recipe, as the plain loops that their scripts are.

Owns: the loops, what they passed. Must not know: clocks, verification.

- per_sample: one text at a time, AdamW at 0.01, mean cross-entropy, from noise of the embedding's size, until every
  argmax is right (Kuratov et al. 2025, 2502.13063).
- progressive: the prefix of every text grows by a token once it is exact, all texts in one padded batch, AdamW at 0.1
  (Tarasov et al. 2026).
- plain_loop: the default recipe's loss and steps in one padded batch, full logits, until the slowest text has its
  margin: what the engine adds to the recipe.
- peft: prompt tuning of the library PEFT, one text at a time, its optimiser and rate as in its documentation (AdamW,
  0.03), to the first exact step (https://huggingface.co/docs/peft/task_guides/prompt_based_methods).
"""

import importlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.frozen_lm import FrozenLM
from engine.recipe import Recipe
from engine.soft_prompt import STARTS, Origin
from engine.target import Target


@dataclass
class Found:
    """What a method found: soft prompts by text, (K, D), and its work.

    Attributes:
        steps: of each text.
        positions: passed forward and backward, padding included, all texts together.
    """

    prompts: dict[str, Tensor] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    positions: int = 0


def per_sample(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int) -> Found:
    """One text at a time, to its first exact step."""
    found = Found()
    for target in targets:
        prompt_KD = noise(lm, num_vectors).requires_grad_()
        adam = torch.optim.AdamW([prompt_KD], lr=0.01, betas=(0.9, 0.9), weight_decay=0.01)
        ids_T = torch.tensor(target.token_ids, device=lm.device)
        for step in range(max_steps + 1):
            logits_TV = read(lm, prompt_KD[None], ids_T[None])[0]
            found.positions += num_vectors + len(ids_T) - 1
            is_exact = bool((logits_TV.argmax(-1) == ids_T).all())
            if is_exact:
                found.prompts[target.id] = prompt_KD.detach().clone()
            if is_exact or step == max_steps:
                found.steps.append(step)
                break
            adam.zero_grad()
            functional.cross_entropy(logits_TV, ids_T).backward()
            adam.step()
    return found


def progressive(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int) -> Found:
    """One batch, every text's prefix grown by a token once it is exact."""
    found, ids_BT, length_B = Found(), *padded(lm, targets)
    prompts_BKD = torch.stack([noise(lm, num_vectors) for _ in targets]).requires_grad_()
    adam = torch.optim.AdamW([prompts_BKD], lr=0.1, betas=(0.9, 0.9), weight_decay=0.01)
    window_B, done_B = torch.ones_like(length_B), torch.full_like(length_B, max_steps)
    for step in range(max_steps + 1):
        longest = int(window_B.max())
        logits_BTV = read(lm, prompts_BKD, ids_BT[:, :longest])
        found.positions += len(targets) * (num_vectors + longest - 1)
        inside_BT = torch.arange(longest, device=lm.device) < window_B[:, None]
        is_exact_B = ((logits_BTV.argmax(-1) == ids_BT[:, :longest]) | ~inside_BT).all(1)
        for b in (is_exact_B & (window_B == length_B) & (done_B == max_steps)).nonzero().flatten().tolist():
            found.prompts[targets[b].id] = prompts_BKD[b].detach().clone()
            done_B[b] = step
        if len(found.prompts) == len(targets):
            break
        adam.zero_grad()
        nll_BT = functional.cross_entropy(logits_BTV.mT, ids_BT[:, :longest], reduction="none") * inside_BT
        (nll_BT.sum(1) / window_B).sum().backward()
        adam.step()
        window_B = torch.minimum(window_B + is_exact_B.long(), length_B)
    found.steps = done_B.tolist()
    return found


def plain_loop(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int) -> Found:
    """The default recipe in one batch, without the engine: its start, cross-entropy at a half, Polyak."""
    optim, temperature, margin = Recipe().optim, 0.5, Recipe().stop_margin
    found, ids_BT, length_B = Found(), *padded(lm, targets)
    origins = [Origin(num_vectors, torch.Generator(), ids_T[:n]) for ids_T, n in zip(ids_BT, length_B, strict=True)]
    prompts_BKD = torch.stack([STARTS[Recipe().start.name](lm, origin) for origin in origins])
    mean_BKD, square_BKD = torch.zeros_like(prompts_BKD), torch.zeros_like(prompts_BKD)
    inside_BT = torch.arange(ids_BT.shape[1], device=lm.device) < length_B[:, None]
    done_B = torch.full_like(length_B, max_steps)
    for step in range(max_steps + 1):
        leaf_BKD = prompts_BKD.requires_grad_()
        logits_BTV = read(lm, leaf_BKD, ids_BT)
        found.positions += len(targets) * (num_vectors + ids_BT.shape[1] - 1)
        said_BT = logits_BTV.gather(2, ids_BT[..., None])[..., 0]
        rival_BT = logits_BTV.detach().scatter(2, ids_BT[..., None], float("-inf")).amax(2)
        margin_B = (said_BT.detach() - rival_BT).masked_fill(~inside_BT, float("inf")).amin(1)
        for b in ((margin_B >= margin) & (done_B == max_steps)).nonzero().flatten().tolist():
            found.prompts[targets[b].id] = leaf_BKD[b].detach().clone()
            done_B[b] = step
        if len(found.prompts) == len(targets):
            break
        nll_BT = functional.cross_entropy(logits_BTV.mT / temperature, ids_BT, reduction="none") * inside_BT
        loss_B = nll_BT.sum(1) / length_B
        (grad_BKD,) = torch.autograd.grad(loss_B.sum(), leaf_BKD)
        square_BKD = optim.beta2 * square_BKD + (1 - optim.beta2) * grad_BKD.square()
        along_BKD = grad_BKD / ((square_BKD / (1 - optim.beta2 ** (step + 1))).sqrt() + optim.eps)
        fall_B = (grad_BKD * along_BKD).sum((1, 2)).clamp_min(1e-30)
        length = (loss_B.detach() / fall_B).clamp_max(optim.lr * lm.embed_rms)
        mean_BKD = optim.beta1 * mean_BKD + length[:, None, None] * along_BKD
        prompts_BKD = prompts_BKD.detach() - mean_BKD
    found.steps = done_B.tolist()
    return found


def peft(lm: FrozenLM, targets: list[Target], num_vectors: int, max_steps: int) -> Found:
    """PEFT's prompt tuning, one text at a time, to its first exact step."""
    library: Any = importlib.import_module("peft")  # not one of ours: `pip install --no-deps peft accelerate`
    found, config = Found(), library.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_vectors)
    for target in targets:
        model = library.get_peft_model(lm.model, config)
        adam = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.03)
        ids_1T = torch.tensor(target.token_ids, device=lm.device)[None]
        for step in range(max_steps + 1):
            told = model(input_ids=ids_1T, labels=ids_1T)
            found.positions += num_vectors + ids_1T.shape[1]
            is_exact = bool((told.logits[:, num_vectors - 1 : -1].argmax(-1) == ids_1T).all())
            if is_exact:
                found.prompts[target.id] = model.get_prompt(batch_size=1)[0].detach().float().clone()
            if is_exact or step == max_steps:
                found.steps.append(step)
                break
            adam.zero_grad()
            told.loss.backward()
            adam.step()
    return found


def noise(lm: FrozenLM, num_vectors: int) -> Tensor:
    return torch.randn(num_vectors, lm.hidden_size, device=lm.device) * lm.embed_rms


def padded(lm: FrozenLM, targets: list[Target]) -> tuple[Tensor, Tensor]:
    """(B, T) ids, zeros behind, and (B,) lengths."""
    ids = [torch.tensor(target.token_ids, device=lm.device) for target in targets]
    lengths = torch.tensor([len(ids_T) for ids_T in ids], device=lm.device)
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), lengths


def read(lm: FrozenLM, prompts_BKD: Tensor, ids_BT: Tensor) -> Tensor:
    """(B, T, V) logits that predict the ids, as a script would have them: the whole model, the whole vocabulary."""
    read_BSD = torch.cat([prompts_BKD, lm.embed(ids_BT[:, :-1])], 1)
    return lm.model(inputs_embeds=read_BSD, use_cache=False).logits[:, prompts_BKD.shape[1] - 1 :].float()
