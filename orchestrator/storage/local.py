"""A run's folder on a disk.

Owns: temporary name, sync, rename; the manifest's file. Must not know: rows.

    DIR/results/part-00000.parquet ...   with a name of its own, part-00000-3f9c1a2b, where its writer is a process
                                         that may outlive its driver
    DIR/manifest.jsonl                   one line a committed part
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pyarrow as pa

from orchestrator.process.fail_points import fail_point
from orchestrator.storage.folder_lock import holder, sole_writer
from orchestrator.storage.protocol import RESULTS, Write
from orchestrator.storage.torn_line import cut_torn_line


class LocalFolder:
    """One folder.

    Args:
        folder: made with the first file.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._lines = folder / "manifest.jsonl"
        self.manifest = str(self._lines)

    def __reduce__(self) -> tuple[type["LocalFolder"], tuple[Path]]:
        """Another process may stand in another folder than this one."""
        return LocalFolder, (self._folder.absolute(),)

    def at(self, name: str) -> str:
        return str(self._folder / name)

    def names(self, folder: str = "") -> list[str]:
        try:
            return [path.name for path in (self._folder / folder).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, name: str) -> pa.NativeFile:
        return pa.OSFile(str(self._folder / name))

    def replace(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            temporary = self._temporary(name)
            temporary.write_bytes(content)
            temporary.replace(self._folder / name)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def clear(self, folder: str) -> None:
        shutil.rmtree(self._folder / folder, ignore_errors=True)

    def write_part(self, number: int, write: Write, *, is_alone: bool = True) -> str:
        own = "" if is_alone else f"-{uuid.uuid4().hex[:8]}"
        name = f"part-{number:05d}{own}.parquet"
        temporary = self._temporary(f"{RESULTS}/{name}")
        try:
            with pa.OSFile(str(temporary), "wb") as file:
                write(file)
            _sync(temporary)
        except BaseException as error:
            temporary.unlink(missing_ok=True)  # half a part would keep a full disk full
            if isinstance(error, OSError) and error.errno is not None:  # in Arrow's words, without the place
                raise OSError(error.errno, os.strerror(error.errno), str(temporary)) from error
            raise
        fail_point("ledger.after_write")
        temporary.replace(temporary.with_name(name))
        _sync(temporary.parent)
        return name

    def committed(self) -> Iterator[bytes]:
        """A torn last line was never committed."""
        if self._lines.is_file():
            with self._lines.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        return  # its writer may be at work: what follows would be the rest of it
                    yield line

    def commit(self, number: int, line: bytes) -> None:
        """The lock keeps others away, so the line is the `number`-th."""
        is_first = not self._lines.is_file()
        cut_torn_line(self._lines)
        before = 0 if is_first else self._lines.stat().st_size
        try:
            with self._lines.open("ab") as lines:
                lines.write(line + b"\n")
                lines.flush()
                os.fsync(lines.fileno())
            if is_first:
                _sync(self._folder)
        except OSError:
            with suppress(FileNotFoundError):  # the next part takes this number: a line that failed must not name it
                os.truncate(self._lines, before)
            raise

    def sole_writer(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        return sole_writer(self._folder)

    def writer(self) -> str | None:
        return holder(self._folder)

    def _temporary(self, name: str) -> Path:
        """A name beside the final one, in a folder that is there."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
