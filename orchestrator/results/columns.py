"""The columns of the results, in the names and types of this version and what they were called before.

Owns: the Parquet schema. Must not know: how parts are written and read.
"""

from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 5

SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # the corpus's id; made unique with #row where it was null or a duplicate
        ("row", pa.int64()),  # 0-based position in the corpus
        ("text", pa.string()),  # the target text; null where it was null, not valid Unicode, or huge and no target
        ("token_ids", pa.list_(pa.int32())),  # T target tokens, end-of-text included; null for invalid rows
        ("spelling", pa.string()),  # engine.spelling.Spelling of token_ids; null for invalid rows and before version 4
        ("status", pa.string()),  # verified, rejected, unsolved, invalid, poisoned
        ("reason", pa.string()),  # why it is not verified; null where it is
        (
            "exact",
            pa.bool_(),
        ),  # the verifying engine emitted exactly token_ids; written by the verifier alone
        ("text_exact", pa.bool_()),  # what it emitted decodes to exactly the text, by whatever tokens
        ("rung", pa.string()),  # highest rung of proof reached: none, argmax, margin, scored, greedy; null if
        # never solved
        ("proof", pa.string()),  # greedy, or beam: the solver's certificate for beam search of any width holds and the
        # verifying engine's beams of 4 said the text too; null where it is not exact
        ("engine", pa.string()),  # verifying engine and version; null if never judged
        ("engine_dtype", pa.string()),  # its numerics
        ("generated_ids", pa.list_(pa.int32())),  # what it emitted
        ("num_vectors", pa.int32()),  # K
        ("hidden_size", pa.int32()),  # D
        (
            "prompt",
            pa.list_(pa.float32()),
        ),  # K * D values, vector after vector; null if nothing was optimised
        ("min_margin", pa.float32()),  # smallest margin the solver measured on exactly this prompt, logits
        ("engine_margin", pa.float32()),  # smallest margin the verifying engine gives a target token, the true text
        # before it, logits; null if never judged, and of texts too long to be scored
        ("log_prob", pa.float32()),  # of the text on exactly this prompt, nats: plain sampling says it so often
        ("beam_slack", pa.float32()),  # every other text is at least so much less likely, nats, as the solver measured
        # it; positive: beam search of any width says the text; null, as log_prob, where only a prefix was measured
        ("first_mismatch", pa.int32()),  # the verifier's if it judged, else the solver's; T if none
        ("teacher_forced_nats", pa.float32()),  # mean cross-entropy under the true prefix, on the stored prompt
        ("token_accuracy", pa.float32()),  # share of right tokens in free-running greedy decoding: the verifier's if
        # it judged, else the solver's own
        ("seq_rep_4", pa.float32()),  # share of repeated 4-grams in the same text
        ("diagnosis", pa.string()),  # engine.monitors.Diagnosis of the same text
        ("steps", pa.int64()),  # optimisation steps of all attempts
        ("positions", pa.int64()),  # positions passed forward and backward, all attempts and siblings
        ("attempts", pa.int32()),  # attempts that ended
        ("recipe_hash", pa.string()),
        ("model_fingerprint", pa.string()),
        ("solver_dtype", pa.string()),  # numerics min_margin was measured in
        ("seconds", pa.float64()),  # wall time in the solver's table, shared with the slots beside it
    ],
    metadata={"verbatim_schema_version": str(SCHEMA_VERSION)},
)

EARLIER = {"positions": "tokens"}
"""What a column was called before version 5."""

PRESENT = {earlier: name for name, earlier in EARLIER.items()}

Row = dict[str, Any]

PROMPT = "prompt"
