"""Reading on: many soft prompts at once, rows that leave, multiply and change places.

Owns: what has been read, the cache, the padding. Must not know: how what is read is chosen.

R rows (one a prompt at first), K soft-prompt vectors, S positions read so far, D hidden size.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM


class Reader:
    """Rows that have read their soft prompt and read on, one embedding at a time.

    Rows of unlike K share every pass. Gradients flow through all that was read unless the caller disables them.

    Attributes:
        hidden_RD: last hidden states, from which each row's next token is predicted.
        prompt_hidden_RKD: last hidden states of the soft prompts, padded on the left.
        pads_R: padded columns of each row.

    Args:
        lm: the frozen model.
        prompts: soft prompts (K_r, D), cast to the model's dtype here.
    """

    def __init__(self, lm: FrozenLM, prompts: Sequence[Tensor]):
        self._dtype = lm.dtype
        longest = max(len(prompt_KD) for prompt_KD in prompts)
        left = [torch.nn.functional.pad(prompt_KD, (0, 0, longest - len(prompt_KD), 0)) for prompt_KD in prompts]
        self.pads_R = torch.tensor([longest - len(prompt_KD) for prompt_KD in prompts], device=lm.device)
        self._history: _History = Cached(lm) if lm.caches else Reread(lm)
        self.prompt_hidden_RKD = self._history.read(torch.stack(left).to(lm.device, lm.dtype), self.pads_R)
        self.hidden_RD = self.prompt_hidden_RKD[:, -1]

    def read(self, read_RD: Tensor) -> Tensor:
        """Every row reads one embedding (R, D); the new `hidden_RD`."""
        self.hidden_RD = self._history.read(read_RD[:, None].to(self._dtype), self.pads_R)[:, -1]
        return self.hidden_RD

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order; a row named twice goes on twice."""
        if list(rows) == list(range(len(self.hidden_RD))):
            return
        rows_R = torch.tensor(rows, device=self.hidden_RD.device)
        self._history.keep(rows_R)
        self.pads_R, self.hidden_RD = self.pads_R[rows_R], self.hidden_RD[rows_R]
        self.prompt_hidden_RKD = self.prompt_hidden_RKD[rows_R]


class _History(Protocol):
    """What all rows have read: columns that begin with each row's padding."""

    def read(self, read_RSD: Tensor, pads_R: Tensor) -> Tensor:
        """Read more columns; their last hidden states (R, S, D)."""
        ...

    def keep(self, rows_R: Tensor) -> None:
        """Go on with these rows."""
        ...


class Cached:
    """A KV cache: padding on the left is masked, every position is computed once."""

    def __init__(self, lm: FrozenLM):
        self._lm = lm
        self._cache = None
        self._end = 0

    def read(self, read_RSD: Tensor, pads_R: Tensor) -> Tensor:
        self._end += read_RSD.shape[1]
        mask = self._mask(read_RSD.shape[1], pads_R)
        with self._lm.uncompiled():
            output = self._lm.body(inputs_embeds=read_RSD, past_key_values=self._cache, use_cache=True, **mask)
        self._cache = output.past_key_values
        return output.last_hidden_state

    def keep(self, rows_R: Tensor) -> None:
        assert self._cache is not None
        self._cache.reorder_cache(rows_R)

    def _mask(self, num_read: int, pads_R: Tensor) -> dict[str, Tensor]:
        """Attention mask over all columns and positions of the last ones; nothing where no row is padded."""
        if not pads_R.any():
            return {}
        columns_S = torch.arange(self._end, device=pads_R.device)
        positions_RS = (columns_S - pads_R[:, None]).clamp_min(0)
        return {
            "attention_mask": (columns_S >= pads_R[:, None]).long(),
            "position_ids": positions_RS[:, self._end - num_read :],
        }


class Reread:
    """No cache: every pass reads each row from its beginning, padded on the right, as training does.

    For models whose cache is not one of attention (Mamba, RWKV), or that do not heed a mask over padding.
    """

    def __init__(self, lm: FrozenLM):
        self._lm = lm
        self._read_RSD: Tensor | None = None

    def read(self, read_RSD: Tensor, pads_R: Tensor) -> Tensor:
        num_read = read_RSD.shape[1]
        self._read_RSD = read_RSD if self._read_RSD is None else torch.cat([self._read_RSD, read_RSD], dim=1)
        pads = pads_R.tolist()
        right_RSD = torch.stack([row_SD.roll(-pad, 0) for row_SD, pad in zip(self._read_RSD, pads, strict=True)])
        hidden_RSD = self._lm.hidden(right_RSD)
        left_RSD = torch.stack([row_SD.roll(pad, 0) for row_SD, pad in zip(hidden_RSD, pads, strict=True)])
        return left_RSD[:, -num_read:]

    def keep(self, rows_R: Tensor) -> None:
        assert self._read_RSD is not None
        self._read_RSD = self._read_RSD[rows_R]
