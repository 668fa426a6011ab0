"""Packed passes: texts one after the other in one row, each attending to itself alone.

Owns: the attention that keeps them apart, and when a model is given it. Must not know: prompts, targets, the head.

Everything but attention works on single positions, so only attention has to know where a text begins. Whether a model
has other parts that look across (convolutions, recurrences, biases by distance) is found out at its load, by
`engine.soundness`; such a model is read in padded rows.

B texts, P positions of all texts together, H attention heads, G key and value heads, h head size.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from engine.layout import Layout

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None

NAME = "packed"

PADDING_FRAC, PADDING_FRAC_OF_ATTENTION = 0.2, 0.5
"""Share of a padded pass that may be padding; where attention alone is padded it may be more. Assumptions."""

UNKNOWN_HERE = ("softcap", "s_aux", "position_bias", "cache")
"""What some families hand to their attention and what changes its result; such a model is read in padded rows."""


class Row(NamedTuple):
    """What attention must know of a packed row; tensors and a number, so that it can be compiled.

    Attributes:
        bounds: where texts begin, and where the last one ends, (B + 1,), int32.
        in_rows: where each position would lie with every text padded in a row of its own, (P,).
        longest: positions of the longest text.
    """

    bounds: Tensor
    in_rows: Tensor
    longest: int

    @classmethod
    def of(cls, layout: Layout) -> "Row":
        return cls(layout.bounds, layout.in_rows, layout.longest)


def packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, *, row: Row, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention within each text of a packed row.

    Args:
        query: (1, H, P, h); key and value (1, G, P, h), H a multiple of G.
        row: where the texts lie.
    Returns:
        (1, P, H, h), and no weights.
    Raises:
        NotImplementedError: the family's attention has a part that is not known here.
    """
    window = kwargs.get("sliding_window")
    unknown = [name for name in UNKNOWN_HERE if kwargs.get(name) is not None]
    if attention_mask is not None or unknown or (window is not None and window < row.longest):
        raise NotImplementedError(f"packed attention with {unknown or 'a mask or a window'}")
    read = _by_kernel if _has_kernel(query.device, query.dtype) else _in_rows
    return read(query, key, value, scaling, row), None


def _has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    return varlen_attn is not None and device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)


def padding_frac(device: torch.device, dtype: torch.dtype, *, is_packed: bool) -> float:
    """Padding accepted in a pass before its texts are split over two, see `engine.slots.packs`."""
    if not is_packed:
        return PADDING_FRAC
    return 1.0 if _has_kernel(device, dtype) else PADDING_FRAC_OF_ATTENTION


def _by_kernel(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, row: Row) -> Tensor:
    assert varlen_attn is not None
    groups: dict[str, Any] = {}
    if _knows_groups():
        groups["enable_gqa"] = True
    elif query.shape[1] != key.shape[1]:
        key, value = (t.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for t in (key, value))
    query_PHh, key_PGh, value_PGh = (t[0].transpose(0, 1) for t in (query, key, value))
    out_PHh: Any = varlen_attn(
        query_PHh, key_PGh, value_PGh, row.bounds, row.bounds, row.longest, row.longest,
        scale=scaling, window_size=(-1, 0), **groups,
    )  # fmt: skip
    return out_PHh[None]


@cache
def _knows_groups() -> bool:
    assert varlen_attn is not None
    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def _in_rows(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, row: Row) -> Tensor:
    """Padded around attention alone, where no kernel keeps texts apart."""
    num_texts, longest = len(row.bounds) - 1, row.longest

    def padded(x_1HPh: Tensor) -> Tensor:
        heads, size = x_1HPh.shape[1], x_1HPh.shape[3]
        rows = x_1HPh.new_zeros(num_texts * longest, heads, size)
        rows = rows.index_copy(0, row.in_rows, x_1HPh[0].transpose(0, 1))
        return rows.view(num_texts, longest, heads, size).transpose(1, 2)

    out_BHSh = scaled_dot_product_attention(
        padded(query), padded(key), padded(value), is_causal=True, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return out_BHSh.transpose(1, 2).flatten(0, 1).index_select(0, row.in_rows)[None]


AttentionInterface.register(NAME, packed_attention)


@contextmanager
def packed(config: Any) -> Iterator[None]:
    """The model of this configuration reads with `packed_attention`."""
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def longest_packed(config: Any, context: int) -> int:
    """Positions up to which no window or chunk of the attention cuts a text short."""
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size"))
    return min([context, *(window for window in windows if isinstance(window, int) and window > 0)])
