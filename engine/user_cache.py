"""The user's cache: what can be made again, kept between commands.

Owns: where it lies. Must not know: what is kept there.
"""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/verbatim`, or `~/.cache/verbatim`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verbatim"
