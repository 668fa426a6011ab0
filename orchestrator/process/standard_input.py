"""Standard input as a file: a corpus is read more than once.

Owns: the copy, for as long as the process lives. Must not know: what is in it.
"""

import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.console.errors import UserError

AGAIN = "a run from standard input goes on when the same is piped in again"


def spooled() -> Path:
    """A copy of all that comes on standard input, in the folder for temporary files.

    Raises:
        UserError: nothing is piped in.
    """
    return Path(_copy().name)


@cache
def _copy() -> Any:
    """The copy; deleted when it is closed, which is when the process ends."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(f"corpus -: standard input is a terminal; pipe a corpus in ({AGAIN})")
    file = tempfile.NamedTemporaryFile(prefix="verbatim-corpus-")
    shutil.copyfileobj(sys.stdin.buffer, file)
    file.flush()
    if not file.tell():
        raise UserError(f"corpus -: nothing came on standard input; pipe a corpus in ({AGAIN})")
    return file
