"""Greedy decoding from soft prompts, one token at a time over a KV cache.

Owns: free-running argmax decoding, a second look at what a certificate claims. Must not know: targets, losses.

B prompts, K soft-prompt vectors, D hidden size, V vocabulary.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from engine.frozen_lm import FrozenLM


@torch.no_grad()
def greedy(lm: FrozenLM, prompt_BKD: Float[Tensor, "B K D"], *, max_tokens: int) -> list[list[int]]:
    """Token ids the model emits after each soft prompt; the end-of-text token, where it comes, is the last one.

    Args:
        lm: the frozen model.
        prompt_BKD: soft prompts of one length K, cast to the model's dtype.
        max_tokens: most tokens to emit for any prompt.
    Returns:
        B lists of at most `max_tokens` ids.
    """
    num_prompts = len(prompt_BKD)
    emitted: list[list[int]] = [[] for _ in range(num_prompts)]
    running = list(range(num_prompts))
    read_BSD, cache = prompt_BKD.to(lm.device, lm.dtype), None
    for _ in range(max_tokens):
        output = lm.model.base_model(inputs_embeds=read_BSD, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        next_B = lm.head.logits(output.last_hidden_state[:, -1]).argmax(-1)
        for b in running:
            emitted[b].append(int(next_B[b]))
        running = [b for b in running if emitted[b][-1] != lm.tokens.end_id]
        if not running:
            break
        read_BSD = lm.embed(next_B)[:, None]
    return emitted
