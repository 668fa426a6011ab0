"""LZ penalty: what a Lempel-Ziv compressor would save on each possible next token.

Owns: the codelength of a next token given what was emitted. Must not know: models, strengths, searches.

R rows, t tokens emitted so far by each, W the last of them that count, V vocabulary.
"""

import math

import torch
from torch import Tensor


def lz_saved_bits(emitted_Rt: Tensor, vocab_size: int, *, window: int, buffer: int) -> Tensor:
    """Bits a sliding-window Lempel-Ziv code saves on every next token, against spelling it out.

    A token spelt out costs log2 V bits; a match of l tokens, d places back, costs log2 d + log2 l. So the token v costs

        dC(v) = log2 V                                 where v is not in the window
                min(log2 d(v), log2(1 + 1 / l(v)))     where it is; log2(1 + 1 / 0) = infinity
        saved(v) = max(0, log2 V - dC(v))

        d(v) = places back to the last v; 1 is the token emitted last
        l(v) = how many of the last emitted tokens, at most `buffer`, stand in the same order before some v

    log2 d starts a match of one token, log2(1 + 1 / l) = log2(l + 1) - log2(l) lengthens one of l tokens. The longer
    the match that v prolongs the more is saved: nothing repeated 0, at l = 1 log2 V - 1, in the limit log2 V.

    Args:
        emitted_Rt: token ids emitted so far, (R, t), t >= 1.
        vocab_size: V.
        window: last tokens searched for matches, those of the buffer included.
        buffer: longest match that counts.
    Returns:
        (R, V), bits, >= 0.
    Example:
        >>> lz_saved_bits(torch.tensor([[2, 3, 1, 2]]), 4, window=8, buffer=8)  # 3 prolongs a match, 2 is the last
        tensor([[0., 1., 2., 1.]])

    Source: Ginart et al. 2025, 2504.20131: the codelength change as a penalty, log2 V for a new token and log2 d for a
        match of one are theirs (equation 14, read in reimplementations and the authors' script). Their third case,
        log2(1 - (d - l + 1) / (l d)) - 1, is minus infinity at l = 1 and weakens as l grows; ours is the change of
        the codelength itself. The window includes the buffer as in the authors' SGLang code, so that short texts
        are penalised too.
    """
    last_RW = emitted_Rt[:, -window:]
    match_RW, num_rows, num_last = _match_lengths(last_RW, buffer), len(last_RW), last_RW.shape[1]
    back_RW = torch.arange(num_last, 0, -1, device=last_RW.device).float().expand(num_rows, -1)
    blank_RV = torch.zeros(num_rows, vocab_size, device=last_RW.device)
    match_RV = blank_RV.scatter_reduce(1, last_RW, match_RW, "amax")
    back_RV = (blank_RV + vocab_size).scatter_reduce(1, last_RW, back_RW, "amin")
    cost_RV = torch.minimum(back_RV.log2(), (1 + 1 / match_RV).log2())
    return (math.log2(vocab_size) - cost_RV).clamp_min(0)


def _match_lengths(last_RW: Tensor, buffer: int) -> Tensor:
    """Before each place, (R, W): how many tokens in a row, at most `buffer`, equal those at the end."""
    matches_RW = torch.ones_like(last_RW, dtype=torch.bool)
    lengths_RW = torch.zeros_like(last_RW, dtype=torch.float)
    for back in range(1, min(buffer, last_RW.shape[1] - 1) + 1):
        before_RW = last_RW.roll(back, 1)
        matches_RW = matches_RW & (before_RW == last_RW[:, -back, None])
        matches_RW[:, :back] = False
        if not matches_RW.any():
            break
        lengths_RW += matches_RW
    return lengths_RW
