"""A stored prompt as the verifier takes it, and whether it can be used.

Owns: the way from a row to a candidate, the refusal of one row as the user is told it. Must not know: engines,
strategies, files that are written.
"""

import numpy as np

from orchestrator.console.errors import UserError
from orchestrator.results.ledger import Row
from orchestrator.results.run_record import ModelRecord
from orchestrator.verifiers.contract import Candidate, refusal


def stored_candidate(row: Row) -> Candidate:
    """A row's prompt and target as the verifier takes them."""
    prompt = row["prompt"]
    values = np.asarray([] if prompt is None else prompt, dtype=np.float32)
    width = row["hidden_size"] or 1
    # A prompt of the wrong length keeps its own shape, for the verifier to refuse with a reason.
    prompt_KD = values.reshape(-1, width) if values.size % width == 0 else values
    return Candidate(row["id"], prompt_KD, tuple(row["token_ids"]))


def usable(row: Row, model: ModelRecord) -> Candidate:
    """A row's prompt and target.

    Raises:
        UserError: the row holds no prompt, or one that this model cannot read.
    """
    if row["prompt"] is None:
        raise UserError(f"--id {row['id']}: this row is {row['status']} ({row['reason']}) and holds no prompt")
    candidate = stored_candidate(row)
    reason = refusal(candidate, hidden_size=model.hidden_size, context=model.context)
    if reason is not None:
        raise UserError(f"--id {row['id']}: {reason}")
    return candidate
