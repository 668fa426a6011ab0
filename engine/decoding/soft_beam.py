"""Soft beam: a beam whose hypotheses share one cache row, because what is read is their mixture.

Owns: the mixture, the one distribution for all hypotheses. Must not know: targets, penalties; what survives and what
is finished is beam search's own affair (`beam.Beams`).

B prompts, K soft-prompt vectors, D hidden size, R running texts, N next tokens asked for, V vocabulary.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from engine.decoding.beam import Beams
from engine.decoding.reader import Reader
from engine.decoding.strategy import Continuation, Strategy
from engine.frozen_lm import FrozenLM


class SoftBeam(Strategy):
    """Beams collapsed into one soft embedding.

    The `width` best hypotheses of a text live in one cache row, so the next-token distribution p is common to them:

        score(h + v) = score(h) + log p(v)          the `width` best continuations live on, score(empty) = 0
        w(h)         = softmax(score(h) / temperature) over the hypotheses that live on
        read next    = sum over h of w(h) * embedding of the last token of h

    A hypothesis is finished at the end-of-text token or at its limit, and among the finished ones
    score / tokens ** length_penalty decides; when the search is over is beam search's rule too. Width 1 is greedy. The
    best running hypothesis always goes on with the argmax, so that towards temperature 0 the greedy text is read, and
    only a hypothesis that ended on the way can be said in its place.

    Source: ours.
    """

    name: Literal["soft_beam"] = "soft_beam"
    width: int = Field(default=4, ge=1, le=256, description="hypotheses mixed into one embedding; 1 is greedy")
    temperature: float = Field(
        default=1.0, gt=0, le=100, description="of the mixture; towards 0 the best hypothesis alone is read"
    )
    length_penalty: float = Field(
        default=1.0, ge=-8, le=8, description="score = log-probability / tokens ** length_penalty; above 0 favours long"
    )

    @torch.no_grad()
    def decode(self, lm: FrozenLM, prompts: Sequence[Tensor], max_tokens: Sequence[int]) -> list[Continuation]:
        """Score: log-probability along the mixtures read over length to the power of the length penalty, nats."""
        searches = [Beams(self.width, limit, lm.token_rule.end_id, self.length_penalty) for limit in max_tokens]
        reader, running = Reader(lm, prompts), list(range(len(prompts)))
        while running:
            log_p_RV = lm.head.logits(reader.hidden_RD).log_softmax(-1)
            top_RN, ids_RN = log_p_RV.topk(min(2 * self.width, lm.vocab_size))
            for b, ids, log_probs in zip(running, ids_RN.tolist(), top_RN.tolist(), strict=True):
                num_hypotheses = len(searches[b].running)
                searches[b].advance([ids] * num_hypotheses, [log_probs] * num_hypotheses)
            going = [r for r, b in enumerate(running) if not searches[b].is_done]
            running = [running[r] for r in going]
            if running:
                reader.keep(going)
                reader.read(lm.mix(torch.stack([self._weights(searches[b], lm) for b in running])))
        return [search.best for search in searches]

    def _weights(self, search: Beams, lm: FrozenLM) -> Tensor:
        """Share of every token (V,) in what is read: the hypotheses' weights, added up by their last tokens."""
        log_probs = torch.tensor([h.log_prob for h in search.running], device=lm.device)
        last_tokens = torch.tensor([h.token_ids[-1] for h in search.running], device=lm.device)
        weights_V = torch.zeros(lm.vocab_size, device=lm.device)
        return weights_V.index_add(0, last_tokens, (log_probs / self.temperature).softmax(0))
