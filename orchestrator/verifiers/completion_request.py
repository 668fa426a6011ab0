"""A prompt as an OpenAI-compatible server takes it: the body of a request to vLLM's /v1/completions.

Owns: what plain greedy decoding is called there. Must not know: servers, files.

K soft-prompt vectors, D hidden size.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def completion_request(model: str, prompt_KD: Tensor, token_ids: Sequence[int], *, ends: bool) -> dict[str, Any]:
    """A plain greedy request; what a server could add from a model's generation settings is switched off, further end
    tokens included.

    Args:
        model: as the server calls it.
        token_ids: the target's.
        ends: whether the last of them is the end-of-text token.
    """
    content = io.BytesIO()
    torch.save(prompt_KD, content)
    return {
        "model": model,
        "prompt_embeds": base64.b64encode(content.getvalue()).decode("ascii"),
        "max_tokens": len(token_ids),
        "temperature": 0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "ignore_eos": True,
        "stop_token_ids": list(token_ids[-1:]) if ends else [],
    }
