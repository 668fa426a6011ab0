"""What only the model can tell of stored prompts: each token's margin, its rival, and which words the vectors are near.

Owns: one reading of each prompt, without a gradient. Must not know: HTML, how rows are chosen.

K soft-prompt vectors, T target tokens, D hidden size, V vocabulary.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from orchestrator.report.chosen import Window
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.run_record import RunRecord
from orchestrator.results.stored_prompt import stored_candidate
from orchestrator.verifiers.contract import refusal

POSITIONS = 2048
"""Read together."""
NEAREST = 3
MOST_VECTORS = 64
"""Of one prompt whose neighbours are told."""

Measured = dict[str, Any]


class Looker:
    """A run's model, loaded to read its prompts.

    Raises:
        ModelError: it cannot be had.
    """

    def __init__(self, record: RunRecord):
        disable_progress_bar()
        source = ModelSource(record.model.name, record.model.revision)
        self._lm = FrozenLM.load(source, served_length=record.model.was_served)
        weight_VD = self._lm.embedding.weight.detach().float()
        self._units_VD = torch.nn.functional.normalize(weight_VD, dim=1)
        self._record = record

    def look(self, ledger: Ledger, ids: set[str]) -> dict[str, Measured]:
        """By id, what was measured of the rows named; nothing of one whose prompt this model cannot read.

        margins: of each target token shown over its best rival, hundredths of a logit; rivals: ids of these.
        nats: cross-entropies of the same, thousandths.
        near: of each vector, ids of the tokens whose embeddings point most nearly the same way.
        alike: the cosines, hundredths. Whole numbers keep a page small.
        """
        found: dict[str, Measured] = {}
        rows = (row for row in ledger.read(COLUMNS) if row["id"] in ids and self._is_sound(row))
        for batch in _batches(rows):
            found |= self._measure(batch)
        return found

    def _is_sound(self, row: Row) -> bool:
        model = self._record.model
        if row["prompt"] is None or not row["token_ids"]:
            return False
        candidate = stored_candidate(row)
        is_known = max(row["token_ids"]) < len(self._units_VD) and min(row["token_ids"]) >= 0
        return is_known and refusal(candidate, hidden_size=model.hidden_size, context=model.context) is None

    @torch.no_grad()
    def _measure(self, rows: list[Row]) -> dict[str, Measured]:
        prompts = [torch.from_numpy(np.array(stored_candidate(row).prompt_KD)) for row in rows]
        targets = [torch.tensor(row["token_ids"]) for row in rows]
        lengths = [len(target_T) for target_T in targets]
        scores = self._lm.score_targets(prompts, targets)
        columns = [values.split(lengths) for values in (scores.margin, scores.rival_id, scores.nats)]
        measured = {}
        for row, prompt_KD, margin_T, rival_T, nats_T in zip(rows, prompts, *columns, strict=True):
            window = Window.of(row)
            measured[row["id"]] = {
                "margins": window.cut(round(100 * margin) for margin in margin_T.tolist()),
                "rivals": window.cut(rival_T.tolist()),
                "nats": window.cut(round(1000 * nats) for nats in nats_T.tolist()),
                **self._nearest(prompt_KD[:MOST_VECTORS]),
            }
        return measured

    def _nearest(self, prompt_KD: Float[Tensor, "K D"]) -> Measured:
        likeness_KV = torch.nn.functional.normalize(prompt_KD, dim=1) @ self._units_VD.T
        best = likeness_KV.topk(min(NEAREST, likeness_KV.shape[1]))
        return {"near": best.indices.tolist(), "alike": (100 * best.values).round().int().tolist()}


COLUMNS = [
    "id", "token_ids", "generated_ids", "exact", "first_mismatch", "prompt", "num_vectors", "hidden_size",
]  # fmt: skip


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Few positions together, in the order of the rows."""
    while first := next(rows, None):
        size = max(1, POSITIONS // (first["num_vectors"] + len(first["token_ids"])))
        yield [first, *islice(rows, size - 1)]
