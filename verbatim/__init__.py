"""Verbatim from Python: soft prompts from which a frozen language model says given texts exactly.

    import verbatim

    v = verbatim.Inverter("pocket")
    results = v.invert(["Call me Ishmael."])
    results[0].prompt, results[0].is_exact     # a (K, D) array, True
    results.verify()                           # decoded anew by vLLM
    results.to_pandas()

    verbatim.load_results("runs/demo")         # what `verbatim run` left in a folder

Nothing heavy is imported before it is used. Mistakes are `verbatim.VerbatimError`, a `ValueError` of one line that
names the argument, its value and the remedy. docs/python.md has the rest.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.recipe import Recipe, recipe_names
    from verbatim.errors import VerbatimError
    from verbatim.inverter import Inverter
    from verbatim.progress import Progress, show_progress
    from verbatim.proof import Proof
    from verbatim.results import Result, Results
    from verbatim.stored import StoredResults, load_results

    __version__: str

__all__ = [
    "Inverter", "Progress", "Proof", "Recipe", "Result", "Results", "StoredResults", "VerbatimError", "__version__",
    "load_results", "recipe_names", "show_progress",
]  # fmt: skip

_HOMES = {
    "Inverter": "verbatim.inverter",
    "Progress": "verbatim.progress",
    "Proof": "verbatim.proof",
    "Recipe": "engine.recipe",
    "Result": "verbatim.results",
    "Results": "verbatim.results",
    "StoredResults": "verbatim.stored",
    "VerbatimError": "verbatim.errors",
    "load_results": "verbatim.stored",
    "recipe_names": "engine.recipe",
    "show_progress": "verbatim.progress",
}


def __getattr__(name: str) -> Any:
    """What is asked for, imported then: torch takes seconds."""
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'verbatim' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    try:
        return importlib.metadata.version("verbatim")
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return "0+unknown"
