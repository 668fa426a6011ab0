"""The search for recipes: spaces to search in, the study, its trials. Imports `orchestrator` and `engine`.

For a Ray `Tuner` of one's own `open_slots` lends the resident models; `space`, `StudySearch` and `compare` are parts
that `verbatim tune` is made of. Nothing heavy is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune_spaces.hold_out import Comparison, compare
    from tune_spaces.objective import OBJECTIVES, Objective
    from tune_spaces.own import Slots, open_slots
    from tune_spaces.search import StudySearch
    from tune_spaces.spaces import SPACES, Space, space

__all__ = [
    "OBJECTIVES", "SPACES", "Comparison", "Objective", "Slots", "Space", "StudySearch", "compare", "open_slots",
    "space",
]  # fmt: skip

_HOMES = {
    "OBJECTIVES": "objective",
    "SPACES": "spaces",
    "Comparison": "hold_out",
    "Objective": "objective",
    "Slots": "own",
    "Space": "spaces",
    "StudySearch": "search",
    "compare": "hold_out",
    "open_slots": "own",
    "space": "spaces",
}


def __getattr__(name: str) -> Any:
    """What is asked for, imported then: Ray takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tune_spaces' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"tune_spaces.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
