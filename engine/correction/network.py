"""The network behind every proposer: numbers a token and numbers a vector in, a change a vector out.

Owns: which tokens a vector stands for, attention over them, the read-out. Must not know: what the numbers mean.

    a token's numbers, those of its vector, its place -> encoder over the text -> each vector reads its own tokens

Vectors share the text out evenly, whatever K and T: vector k stands for the tokens from k * T / K on. One network
serves every K and every length. Its last layers start at zero, so that an untrained network changes nothing.

B texts, K soft-prompt vectors, T target tokens, D hidden size, W width of the encoder.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from engine.strict import Strict

PLACE = 64
"""Numbers that tell a place: sines and cosines of wavelengths from 6 to 2,500. Source: Vaswani et al. 2017,
1706.03762."""


class NetworkShape(Strict):
    """What decides a network's parameters.

    Attributes:
        hidden_size: D of the frozen model.
    """

    hidden_size: int = Field(ge=1)
    token_numbers: int = Field(ge=1)
    vector_numbers: int = Field(ge=0)
    width: int = Field(default=256, ge=8, le=4096)
    layers: int = Field(default=2, ge=0, le=24)
    heads: int = Field(default=4, ge=1)
    parts: int = Field(default=4, ge=1, le=16)


class PromptNetwork(nn.Module):
    """A change of each vector, in units of the embedding's rms entry, from what is known of the text around it.

    With no layers it is a linear map of what the vector's own tokens say: the cheapest that can be learned.
    """

    def __init__(self, shape: NetworkShape):
        super().__init__()
        self.shape = shape
        token_width = shape.token_numbers + shape.vector_numbers
        read_width = shape.parts * shape.token_numbers + shape.vector_numbers + PLACE + 1
        self.linear = nn.Linear(read_width, shape.hidden_size)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        if shape.layers:
            self.into = nn.Linear(token_width + PLACE + 1, shape.width)
            self.blocks = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.layers))
            self.norm = nn.LayerNorm(shape.width)
            self.inner = nn.Linear(shape.parts * shape.width + PLACE + 1, 2 * shape.width)
            self.out = nn.Linear(2 * shape.width, shape.hidden_size)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, tokens: list[Tensor], vectors: list[Tensor]) -> list[Tensor]:
        """Changes of B texts' vectors.

        Args:
            tokens: B tensors (T_b, token_numbers).
            vectors: B tensors (K_b, vector_numbers).
        Returns:
            B tensors (K_b, D).
        """
        parts = [_parts(len(t), len(v), self.shape.parts).to(t.device) for t, v in zip(tokens, vectors, strict=True)]
        places = [_places(len(v), len(t) / len(v), v) for t, v in zip(tokens, vectors, strict=True)]
        own = [t[p].flatten(1) for t, p in zip(tokens, parts, strict=True)]
        change_ND = self.linear(torch.cat([torch.cat(row, 1) for row in zip(own, vectors, places, strict=True)]))
        if self.shape.layers:
            states = self._encode(tokens, vectors)
            read = [torch.cat([s[p].flatten(1), at], 1) for s, p, at in zip(states, parts, places, strict=True)]
            change_ND = change_ND + self.out(gelu(self.inner(torch.cat(read))))
        return list(change_ND.split([len(v) for v in vectors]))

    def _encode(self, tokens: list[Tensor], vectors: list[Tensor]) -> list[Tensor]:
        """States of every token, (T_b, W), that know the whole text."""
        longest = max(map(len, tokens))
        rows = []
        for token, vector in zip(tokens, vectors, strict=True):
            num_tokens, num_vectors = len(token), len(vector)
            of_token = torch.arange(num_tokens, device=token.device) * num_vectors // num_tokens
            row = torch.cat([token, vector[of_token], _places(num_tokens, num_tokens / num_vectors, token)], 1)
            rows.append(pad(row, (0, 0, 0, longest - num_tokens)))
        state = self.into(torch.stack(rows))
        is_real = torch.stack([torch.arange(longest, device=state.device) < len(token) for token in tokens])
        for block in self.blocks:
            state = block(state, is_real)
        return [row[: len(token)] for row, token in zip(self.norm(state), tokens, strict=True)]


class Block(nn.Module):
    """Attention and a feed-forward layer, normed before; every token sees every real one."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, state: Tensor, is_real: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(state)).chunk(3, -1)
        )
        seen = scaled_dot_product_attention(q, k, v, attn_mask=is_real[:, None, None, :])
        state = state + self.mix(seen.transpose(1, 2).flatten(2))
        return state + self.down(gelu(self.up(self.norm2(state))))


def _parts(num_tokens: int, num_vectors: int, parts: int) -> Tensor:
    """(K, parts) places in the text: the middles of equal parts of each vector's share."""
    middles = (torch.arange(num_vectors * parts) + 0.5) * num_tokens / (num_vectors * parts)
    return middles.long().clamp_max(num_tokens - 1).reshape(num_vectors, parts)


def _places(count: int, tokens_per_vector: float, like: Tensor) -> Tensor:
    """(count, PLACE + 1): where each stands, and for how many tokens a vector does."""
    waves = torch.exp(torch.linspace(0, math.log(1 / 400), PLACE // 2, device=like.device))
    angle = torch.arange(count, device=like.device)[:, None] * waves
    ratio = torch.full((count, 1), math.log2(tokens_per_vector), device=like.device)
    return torch.cat([angle.sin(), angle.cos(), ratio], 1).to(like.dtype)
