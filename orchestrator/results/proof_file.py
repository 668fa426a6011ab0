"""The ladder's table that a run with `--ladder` leaves beside its results: one row a prompt, one column a rung.

Owns: its name, what each rung came to. Must not know: how a ladder is climbed.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.console.errors import UserError
from orchestrator.storage.location import Location

PROOF_FILE = "proof.parquet"


def read_rungs(folder: Location) -> list[tuple[str, int, int]] | None:
    """(rung, exact, prompts) in the order they were climbed; None where none were.

    Raises:
        UserError: the table is damaged.
    """
    path = folder / PROOF_FILE if isinstance(folder, Path) else None
    if path is None or not path.is_file():
        return None
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); move it away and try again") from error
    rungs = [name for name in table.column_names if pa.types.is_boolean(table.schema.field(name).type)]
    known = {name: table[name].drop_null().to_pylist() for name in rungs}
    return [(name, sum(values), len(values)) for name, values in known.items()]
