"""Files of lines that a kill may have left with half a line.

Owns: cutting it off. Must not know: what the lines say.
"""

import os
from pathlib import Path


def cut_torn_line(path: Path) -> None:
    """Cut off a last line that has no end, so that the next one stands alone; nothing where there is no file."""
    if not path.is_file():
        return
    with path.open("rb+") as lines:
        end = lines.seek(0, os.SEEK_END)
        lines.seek(max(0, end - 1))
        if lines.read(1) not in (b"", b"\n"):
            lines.truncate(path.read_bytes().rfind(b"\n") + 1)
