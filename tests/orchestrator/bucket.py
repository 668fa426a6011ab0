"""An object store on a disk, for processes of one machine, and processes that commit to it.

Objects appear whole and the file system itself lets one process alone create a name, as the real stores do. Importing
this makes `bucket://` a store that runs may be kept in.
"""

import os
import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from orchestrator.console.errors import Superseded
from orchestrator.process import fail_points
from orchestrator.results.ledger import Ledger
from orchestrator.run.rows import result_row
from orchestrator.storage import location
from tests.orchestrator.made_up import ROW_CONTEXT, verified_item

IDS = tuple("abcdefghijklmnopqrstuvwx")

UPLOAD = ".upload-"


class Bucket(LocalFileSystem):
    """What fsspec's packages for S3, Google Cloud Storage and Azure promise of `pipe_file`."""

    protocol = "bucket"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        target = Path(self._strip_protocol(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        upload = target.with_name(f"{UPLOAD}{uuid.uuid4()}")
        upload.write_bytes(value)
        try:
            os.link(upload, target) if mode == "create" else upload.replace(target)
        finally:
            upload.unlink(missing_ok=True)

    def ls(self, path, detail=False, **kwargs):
        found = super().ls(path, detail=True)
        shown = [entry for entry in found if UPLOAD not in entry["name"]]
        return shown if detail else [entry["name"] for entry in shown]


class Unwell(Bucket):
    """A store that answers 503 to whatever is written, in every process, as long as a file of that name lies in it."""

    protocol = "unwell"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        target = Path(self._strip_protocol(path))
        if any((folder / "503").exists() for folder in target.parents):
            raise OSError("503 Service Unavailable")
        super().pipe_file(path, value, mode, **kwargs)


for kind in (Bucket, Unwell):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
    location.EXTRAS[kind.protocol] = "none"


def uri(folder: Path) -> str:
    return f"bucket://{folder}"


def made_up_row(id: str) -> dict:
    return result_row(verified_item(id, row=IDS.index(id)), ROW_CONTEXT)


def commit_what_is_left(uri: str, orders: Path | None = None) -> None:
    """Commit, two rows a part, what nobody has committed; start over where another was first.

    Args:
        orders: folder of orders to die at a fail point.
    """
    if orders is not None:
        os.environ[fail_points.VARIABLE] = str(orders)
    while True:
        ledger = Ledger(uri)
        committed = ledger.committed_ids()
        left = [id for id in IDS if id not in committed]
        try:
            for first in range(0, len(left), 2):
                ledger.commit([made_up_row(id) for id in left[first : first + 2]])
            return
        except Superseded:
            continue
