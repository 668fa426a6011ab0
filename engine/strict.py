"""Strict settings: values that cannot be misspelt, changed or left out of range.

Owns: the base of every settings class. Must not know: files, what any setting means.
"""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
