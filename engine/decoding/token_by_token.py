"""Decoding one token at a time: emit, read, leave when finished.

Owns: who still runs, what each has emitted, the sum of log-probabilities. Must not know: how a token is chosen.

B prompts, K soft-prompt vectors, D hidden size, R running texts, t tokens emitted so far, V vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from engine.decoding.reader import Reader
from engine.decoding.strategy import Continuation
from engine.frozen_lm import FrozenLM

Choose = Callable[[Tensor, Tensor], Tensor]
"""`(told_Rt, logits_RV) -> next_R`: the next token of every running text."""


@torch.no_grad()
def token_by_token(
    lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int], choose: Choose
) -> list[Continuation]:
    """What each prompt says when `choose` names its tokens; the score is the sum of the model's own
    log-probabilities of them, nats."""
    reader, running = Reader(lm, prompts), list(range(len(prompts)))
    emitted: list[list[int]] = [[] for _ in prompts]
    scores = [0.0] * len(prompts)
    while running:
        logits_RV = lm.head.logits(reader.hidden_RD)
        told_Rt = torch.tensor([emitted[b] for b in running], dtype=torch.long, device=lm.device)
        next_R = choose(told_Rt, logits_RV)
        gained_R = logits_RV.log_softmax(-1).gather(1, next_R[:, None]).squeeze(1)
        for b, token, gained in zip(running, next_R.tolist(), gained_R.tolist(), strict=True):
            emitted[b].append(token)
            scores[b] += gained
        going = [
            r for r, b in enumerate(running)
            if emitted[b][-1] != lm.tokens.end_id and len(emitted[b]) < max_tokens[b]
        ]  # fmt: skip
        running = [running[r] for r in going]
        if running:
            reader.keep(going)
            reader.read(lm.embed(next_R[going]))
    return [Continuation(ids, score) for ids, score in zip(emitted, scores, strict=True)]
