"""Strict settings: values that cannot be misspelt, changed, left out of range, infinite or not a number.

Owns: the base of every settings class. Must not know: files, what any setting means.
"""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen; unknown keys, nan and inf are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
