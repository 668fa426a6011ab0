"""What was measured once about a model, kept for the next run.

Owns: the files: beside the pocket model for the pocket model, in the user's cache for any other. Must not know: what
is kept.
"""

import json
import os
from pathlib import Path
from typing import Any

from engine.user_cache import cache_folder


def read_cached(key: str, shipped: Path | None = None) -> Any | None:
    """The value kept under a key, shipped ones first, or None. A damaged file counts as none."""
    own = (cache_folder() / f"{key}.json", lambda value: value)
    for path, pick in [(shipped, lambda values: values[key]), own] if shipped else [own]:
        try:
            return pick(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def write_cached(key: str, value: Any) -> None:
    """Keep a value; a folder that cannot be written is no reason to stop a run."""
    path = cache_folder() / f"{key}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(value) + "\n")
        temporary.replace(path)
    except OSError:
        pass
