"""A stored prompt that can be used: there, and sound.

Owns: the refusal of one row, as the user is told it. Must not know: engines, strategies, files that are written.
"""

from orchestrator.errors import UserError
from orchestrator.ledger import Row
from orchestrator.reproof import stored_candidate
from orchestrator.run_record import ModelRecord
from orchestrator.verifier import Candidate, refusal


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
