"""Penalties on the next token's scores, given what a row has emitted.

Owns: the settings and order of the penalties. Must not know: models, searches.

R rows, t tokens emitted so far by each, V vocabulary. Penalties are tools for looking at a prompt and for salvage:
`exact` never means a text that was decoded with one.
"""

from pydantic import Field
from torch import Tensor
from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from engine.decoding.lz_penalty import lz_saved_bits
from engine.strict import Strict


class Processors(Strict):
    """Penalties in the order they are applied; the defaults change nothing."""

    repetition_penalty: float = Field(
        default=1.0, gt=0, le=10, description="divides positive scores of emitted tokens, 1.1 to 1.3; 1 is off"
    )
    no_repeat_ngram: int = Field(default=0, ge=0, description="length of n-grams that must not come twice; 0 is off")

    lz_penalty: float = Field(
        default=0.0, ge=0, le=10, description="logits a bit that a Lempel-Ziv code saves, the paper's 0.15; 0 is off"
    )
    lz_window: int = Field(default=512, ge=1, description="last tokens searched for what repeats")
    lz_buffer: int = Field(default=32, ge=1, description="longest match that counts, tokens")

    def apply(self, emitted_Rt: Tensor, scores_RV: Tensor) -> Tensor:
        """Penalised scores (R, V); `scores_RV` itself is left as it is.

        Args:
            emitted_Rt: token ids emitted so far, (R, t); the soft prompt has none.
            scores_RV: logits or log-probabilities, float32.
        Source: Keskar et al. 2019, 1909.05858 (repetition); Paulus et al. 2018, 1705.04304 (n-grams); both as in
            transformers. Ginart et al. 2025, 2504.20131 (LZ); see `lz_penalty.lz_saved_bits`.
        """
        if emitted_Rt.shape[1] == 0:
            return scores_RV
        penalised_RV = self._list()(emitted_Rt, scores_RV.clone())  # type: ignore[arg-type]
        if self.lz_penalty:
            saved_RV = lz_saved_bits(emitted_Rt, scores_RV.shape[1], window=self.lz_window, buffer=self.lz_buffer)
            penalised_RV = penalised_RV - self.lz_penalty * saved_RV
        return penalised_RV

    def _list(self) -> LogitsProcessorList:
        chosen = LogitsProcessorList()
        if self.repetition_penalty != 1:
            chosen.append(RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if self.no_repeat_ngram:
            chosen.append(NoRepeatNGramLogitsProcessor(self.no_repeat_ngram))
        return chosen
