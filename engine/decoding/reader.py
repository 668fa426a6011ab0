"""Reading on over a KV cache: many soft prompts at once, rows that leave, multiply and change places.

Owns: the cache, the padding, the state after the last position read. Must not know: how what is read is chosen.

R rows (one a prompt at first), K soft-prompt vectors, D hidden size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM


class Reader:
    """Rows that have read their soft prompt and read on, one embedding at a time.

    Prompts are padded on the left and masked, so that rows of unlike K share every pass. Gradients flow through
    all that was read unless the caller disables them.

    Attributes:
        hidden_RD: last hidden states, from which each row's next token is predicted.
        prompt_hidden_RKD: last hidden states of the soft prompts, padding included.
        pads_R: padded columns of each row.

    Args:
        lm: the frozen model.
        prompts: soft prompts (K_r, D), cast to the model's dtype here.
    """

    def __init__(self, lm: FrozenLM, prompts: Sequence[Tensor]):
        self._lm = lm
        self._end = max(len(prompt_KD) for prompt_KD in prompts)
        left = [torch.nn.functional.pad(prompt_KD, (0, 0, self._end - len(prompt_KD), 0)) for prompt_KD in prompts]
        self.pads_R = torch.tensor([self._end - len(prompt_KD) for prompt_KD in prompts], device=lm.device)
        self._cache = None
        self.prompt_hidden_RKD = self._pass(torch.stack(left).to(lm.device, lm.dtype))
        self.hidden_RD = self.prompt_hidden_RKD[:, -1]

    def read(self, read_RD: Tensor) -> Tensor:
        """Every row reads one embedding (R, D); the new `hidden_RD`."""
        self._end += 1
        self.hidden_RD = self._pass(read_RD[:, None].to(self._lm.dtype))[:, -1]
        return self.hidden_RD

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order; a row named twice goes on twice."""
        if list(rows) == list(range(len(self.hidden_RD))):
            return
        rows_R = torch.tensor(rows, device=self._lm.device)
        assert self._cache is not None
        self._cache.reorder_cache(rows_R)
        self.pads_R, self.hidden_RD = self.pads_R[rows_R], self.hidden_RD[rows_R]
        self.prompt_hidden_RKD = self.prompt_hidden_RKD[rows_R]

    def _pass(self, read_RSD: Tensor) -> Tensor:
        output = self._lm.model.base_model(
            inputs_embeds=read_RSD, past_key_values=self._cache, use_cache=True, **self._mask(read_RSD.shape[1])
        )
        self._cache = output.past_key_values
        return output.last_hidden_state

    def _mask(self, num_read: int) -> dict[str, Tensor]:
        """Attention mask over all columns and positions of the last ones; nothing where no row is padded."""
        if not self.pads_R.any():
            return {}
        columns_S = torch.arange(self._end, device=self.pads_R.device)
        positions_RS = (columns_S - self.pads_R[:, None]).clamp_min(0)
        return {
            "attention_mask": (columns_S >= self.pads_R[:, None]).long(),
            "position_ids": positions_RS[:, self._end - num_read :],
        }
