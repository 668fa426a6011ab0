"""The network behind every proposer: numbers a token and numbers a vector in, a change a vector out.

Owns: which tokens a vector stands for, attention over them, the read-out. Must not know: what the numbers mean.

    a token's numbers, those of its vector, its place -> encoder over the text -> each vector reads its own tokens

Vectors share the text out evenly, whatever K and T: vector k stands for the tokens from k * T / K on. One network
serves every K and every length. Its last layers start at zero, so that an untrained network changes nothing.

B texts, K soft-prompt vectors, T target tokens, N numbers of one, D hidden size, W width of the encoder, P parts.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

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

    def forward(self, token_BTN: Tensor, vector_BKN: Tensor) -> Tensor:
        """Changes of the vectors of B texts of one size.

        Args:
            token_BTN: (B, T, token_numbers).
            vector_BKN: (B, K, vector_numbers).
        Returns:
            (B, K, D).
        """
        num_tokens, num_vectors = token_BTN.shape[1], vector_BKN.shape[1]
        at_KP = _parts(num_tokens, num_vectors, self.shape.parts, token_BTN.device)
        places_KN = _places(num_vectors, num_tokens / num_vectors, token_BTN)
        places_BKN = places_KN.expand(len(token_BTN), *places_KN.shape)
        change_BKD = self.linear(torch.cat([token_BTN[:, at_KP].flatten(2), vector_BKN, places_BKN], 2))
        if self.shape.layers:
            state_BTW = self._encode(token_BTN, vector_BKN)
            read_BKW = torch.cat([state_BTW[:, at_KP].flatten(2), places_BKN], 2)
            change_BKD = change_BKD + self.out(gelu(self.inner(read_BKW)))
        return change_BKD

    def _encode(self, token_BTN: Tensor, vector_BKN: Tensor) -> Tensor:
        """States of every token, (B, T, W), that know the whole text."""
        num_tokens, num_vectors = token_BTN.shape[1], vector_BKN.shape[1]
        of_token_T = torch.arange(num_tokens, device=token_BTN.device) * num_vectors // num_tokens
        places_TN = _places(num_tokens, num_tokens / num_vectors, token_BTN)
        places_BTN = places_TN.expand(len(token_BTN), *places_TN.shape)
        state_BTW = self.into(torch.cat([token_BTN, vector_BKN[:, of_token_T], places_BTN], 2))
        for block in self.blocks:
            state_BTW = block(state_BTW)
        return self.norm(state_BTW)


class Block(nn.Module):
    """Attention and a feed-forward layer, normed before; every token sees every other."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, state: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(state)).chunk(3, -1)
        )
        seen = scaled_dot_product_attention(q, k, v)
        state = state + self.mix(seen.transpose(1, 2).flatten(2))
        return state + self.down(gelu(self.up(self.norm2(state))))


def _parts(num_tokens: int, num_vectors: int, parts: int, device: torch.device) -> Tensor:
    """(K, parts) places in the text: the middles of equal parts of each vector's share."""
    middles = (torch.arange(num_vectors * parts, device=device) + 0.5) * num_tokens / (num_vectors * parts)
    return middles.long().clamp_max(num_tokens - 1).reshape(num_vectors, parts)


def _places(count: int, tokens_per_vector: float, like: Tensor) -> Tensor:
    """(count, PLACE + 1): where each stands, and for how many tokens a vector does."""
    waves = torch.exp(torch.linspace(0, math.log(1 / 400), PLACE // 2, device=like.device))
    angle = torch.arange(count, device=like.device)[:, None] * waves
    ratio = torch.full((count, 1), math.log2(tokens_per_vector), device=like.device)
    return torch.cat([angle.sin(), angle.cos(), ratio], 1).to(like.dtype)
