"""From a queue item to a row of the results.

Owns: which fact goes into which column. Must not know: files, Ray.
"""

from dataclasses import dataclass

from engine.monitors import monitor
from orchestrator.ledger import Row
from orchestrator.work_queue import Item


@dataclass(frozen=True)
class RowContext:
    """What every row of a run has in common."""

    recipe_hash: str
    model_fingerprint: str
    solver_dtype: str


def result_row(item: Item, context: RowContext) -> Row:
    """The row of an item that has ended."""
    attempt, verdict = item.attempt, item.verdict
    certificate = attempt.certificate if attempt else None
    # A verdict counts for the prompt it was given on, not for a later attempt's.
    judged = verdict if attempt and attempt.is_candidate else None
    said = judged.generated_ids if judged else attempt.generated_ids if attempt else None
    seen = monitor(certificate, said, item.target) if certificate and said is not None else None
    return {
        "id": item.id,
        "row": item.row,
        "text": storable_text(item.text),
        "token_ids": list(item.target.token_ids) if item.job else None,
        "status": str(item.state),
        "reason": item.reason,
        "exact": judged.exact if judged else False,
        "engine": judged.engine if judged else None,
        "engine_dtype": judged.engine_dtype if judged else None,
        "generated_ids": list(judged.generated_ids) if judged else None,
        "num_vectors": len(attempt.prompt_KD) if attempt else None,
        "hidden_size": attempt.prompt_KD.shape[1] if attempt else None,
        "prompt": attempt.prompt_KD.flatten().numpy() if attempt else None,
        "min_margin": certificate.min_margin if certificate else None,
        "first_mismatch": judged.first_mismatch if judged else certificate.first_mismatch if certificate else None,
        "teacher_forced_nats": certificate.mean_nats if certificate else None,
        "token_accuracy": seen.token_accuracy if seen else None,
        "seq_rep_4": seen.seq_rep_4 if seen else None,
        "diagnosis": str(seen.diagnosis) if seen else None,
        "steps": item.steps,
        "tokens": item.tokens,
        "attempts": item.num_attempts,
        "recipe_hash": context.recipe_hash,
        "model_fingerprint": context.model_fingerprint,
        "solver_dtype": context.solver_dtype,
        "seconds": item.seconds,
    }


def storable_text(text: object) -> str | None:
    """The text if Parquet can hold it, else None."""
    if not isinstance(text, str):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
