"""From a queue item to a row of the results.

Owns: which fact goes into which column. Must not know: files, Ray.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from engine.held import as_stored
from engine.monitors import monitor
from engine.slots import Attempt
from orchestrator.results.ledger import Row
from orchestrator.verifiers.contract import Verdict
from orchestrator.work.item import Item


@dataclass(frozen=True)
class RowContext:
    """What every row of a run has in common.

    Attributes:
        says: the text of token ids, end-of-text left out.
    """

    recipe_hash: str
    model_fingerprint: str
    solver_dtype: str
    says: Callable[[list[int]], str]


MAX_REFUSED_TEXT = 1 << 16
"""Characters of a text that is kept although it was no target."""


class Rung(StrEnum):
    """How far up the ladder of proof a prompt got in its run; what lies higher is climbed by `verify --ladder`."""

    NONE = "none"
    ARGMAX = "argmax"  # every token is the solver's argmax
    MARGIN = "margin"  # and has the margin that was asked for
    SCORED = "scored"  # and every token is the verifying engine's argmax too, the text being read and not decoded
    GREEDY = "greedy"  # and the verifying engine, decoding freely, emitted all of them: exact


def result_row(item: Item, context: RowContext) -> Row:
    """The row of an item that has ended."""
    attempt, verdict = item.attempt, item.verdict
    certificate = attempt.certificate if attempt else None
    # A verdict counts for the prompt it was given on, not for a later attempt's.
    judged = verdict if attempt and attempt.is_greedy else None
    said = judged.generated_ids if judged else attempt.generated_ids if attempt else None
    seen = monitor(certificate, said, item.target) if certificate and said is not None else None
    return {
        "id": item.id,
        "row": item.row,
        "text": storable_text(item.text, most=None if item.job else MAX_REFUSED_TEXT),
        "token_ids": list(item.target.token_ids) if item.job else None,
        "spelling": str(item.target.spelling) if item.job else None,
        "status": str(item.state),
        "reason": item.reason,
        "exact": judged.exact if judged else False,
        "text_exact": _says_the_text(judged, item, context) if judged else False,
        "rung": str(_rung(attempt, judged)) if attempt else None,
        "proof": ("beam" if judged.beams > 1 else "greedy") if judged and judged.exact else None,
        "engine": judged.engine if judged else None,
        "engine_dtype": judged.engine_dtype if judged else None,
        "generated_ids": list(judged.generated_ids) if judged else None,
        "num_vectors": len(attempt.prompt_KD) if attempt else None,
        "hidden_size": attempt.prompt_KD.shape[1] if attempt else None,
        "prompt": flat(as_stored(attempt.prompt_KD)) if attempt else None,
        "min_margin": certificate.min_margin if certificate else None,
        "engine_margin": _engine_margin(judged),
        "log_prob": _known(certificate.log_prob) if certificate else None,
        "beam_slack": _known(certificate.slack) if certificate else None,
        "first_mismatch": judged.first_mismatch if judged else certificate.first_mismatch if certificate else None,
        "teacher_forced_nats": certificate.mean_nats if certificate else None,
        "token_accuracy": seen.token_accuracy if seen else None,
        "seq_rep_4": seen.seq_rep_4 if seen else None,
        "diagnosis": str(seen.diagnosis) if seen else None,
        "steps": item.steps,
        "positions": item.positions,
        "attempts": item.num_attempts,
        "recipe_hash": context.recipe_hash,
        "model_fingerprint": context.model_fingerprint,
        "solver_dtype": context.solver_dtype,
        "seconds": item.seconds,
    }


def flat(prompt_KD: Any) -> Any:
    """The numbers of a prompt, vector after vector; one that lies elsewhere as it is."""
    return prompt_KD.reshape(-1) if isinstance(prompt_KD, np.ndarray) else prompt_KD


def _says_the_text(judged: Verdict, item: Item, context: RowContext) -> bool:
    """A target's tokens decode to its text, or it would not be a target; only other tokens need decoding."""
    return judged.exact or context.says(list(judged.generated_ids)) == item.text


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _rung(attempt: Attempt, judged: Verdict | None) -> Rung:
    certificate = attempt.certificate
    if certificate is None or not certificate.is_greedy:
        return Rung.NONE
    if certificate.min_margin < attempt.job.wanted:
        return Rung.ARGMAX
    if judged and judged.exact:
        return Rung.GREEDY
    scored = _engine_margin(judged)
    return Rung.SCORED if scored is not None and scored > 0 else Rung.MARGIN


def _engine_margin(judged: Verdict | None) -> float | None:
    """The smallest margin that the verifying engine gives a target token."""
    return min(judged.target_margins) if judged and judged.target_margins else None


def storable_text(text: object, most: int | None = None) -> str | None:
    """The text if Parquet can hold it and it has at most so many characters, else None."""
    if not isinstance(text, str) or (most is not None and len(text) > most):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
