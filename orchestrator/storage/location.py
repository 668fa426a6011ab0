"""Locations: a path on this machine, or a URI into an object store.

Owns: telling them apart, their names, opening a file at one, listing a folder. Must not know: what is in a file.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from orchestrator.console.errors import StorageError, UserError
from orchestrator.process import standard_input

Location = Path | str
"""A string is a URI: `s3://bucket/folder`."""

STDIN = Path("-")
"""What comes on standard input; a file of that name is `$PWD/-`."""

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Protocols of object stores, and the extra of this package that installs what speaks them."""


def parse_location(text: str, flag: str = "DIR") -> Location:
    """What a user typed.

    Raises:
        UserError: nothing.
    """
    if not text:
        raise UserError(f"{flag}: is empty; give a path or a URI")
    return text.rstrip("/") if "://" in text else Path(text)


STORES_VARIABLES = ("AWS_", "AZURE_", "BOTO_", "FSSPEC_", "GCSFS_", "GOOGLE_", "S3_", "STORAGE_EMULATOR_HOST")
"""How the names of variables begin that say how a store is reached. Source: botocore, gcsfs, adlfs, fsspec."""


def stores_variables() -> dict[str, str]:
    """What this process's environment says of stores, for another that was started elsewhere."""
    return {name: value for name, value in os.environ.items() if name.startswith(STORES_VARIABLES)}


def absolute(location: Location) -> str:
    """The same location, wherever it is asked for."""
    return str(location.resolve()) if isinstance(location, Path) and location != STDIN else str(location)


def join(folder: Location, name: str) -> Location:
    """A file in a folder."""
    return folder / name if isinstance(folder, Path) else f"{folder}/{name}"


def name_of(location: Location) -> PurePosixPath:
    """The last part of a location, for its name, stem and suffix."""
    return PurePosixPath(PurePosixPath(location).name)


def protocol_of(uri: str) -> str:
    return uri.split("://")[0]


def connect(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URI, and the path in it; nothing is asked of it yet.

    Raises:
        UserError: no such protocol, or its package is not installed.
    """
    import fsspec  # here, because most runs do without

    try:
        return fsspec.url_to_fs(uri, use_listings_cache=False)  # another process may have written since
    except ImportError as error:
        extra = EXTRAS.get(protocol_of(uri))
        remedy = f"pip install 'verbatim[{extra}]'" if extra else "install what it names"
        raise UserError(f"{uri}: needs a package that is not there ({error}); {remedy}") from None
    except ValueError as error:
        raise UserError(f"{uri}: cannot be opened ({error}); give a path, or s3://, gs:// or abfs://") from None


@contextmanager
def asking(uri: str) -> Iterator[None]:
    """Tell in one line of a store that refuses or does not answer.

    Raises:
        StorageError: whatever went wrong; the stores' packages share no base class for their errors.
    """
    try:
        yield
    except Exception as error:
        raise StorageError(f"{uri}: the store does not do what it is asked ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_file(location: Location) -> bool:
    """Whether there is a file; a store that cannot be asked is an error.

    Raises:
        UserError, StorageError: not a store, or it does not answer.
    """
    if isinstance(location, Path):
        with _nameable(location):
            return location.is_file()
    return _info(location).get("type") == "file"


@contextmanager
def _nameable(path: Path) -> Iterator[None]:
    """A name that no file can have, a folder that may not be entered: told as what they are."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give another path") from error


def require_folder(folder: Path) -> None:
    """Refuse a folder to be that is a file, or would lie in one.

    Raises:
        UserError: which one is a file.
    """
    for path in (folder, *folder.parents):
        with _nameable(path):
            is_there = path.exists()
        if is_there and not path.is_dir():
            raise UserError(f"--out {folder}: {'' if path == folder else f'{path} '}is a file; choose a folder")


def files_below(location: Location) -> list[str] | None:
    """The paths of all files in a folder and its folders, as seen from it, in order; None where there is no folder.

    Pipes and devices are no files; links to nothing are, for whoever opens them to tell of.

    Raises:
        UserError, StorageError: as `is_file`.
    """
    if isinstance(location, Path):
        if not location.is_dir():
            return None
        found = (Path(folder) / name for folder, _, names in os.walk(location) for name in names)
        files = (path for path in found if path.is_file() or not path.exists())
        return sorted(path.relative_to(location).as_posix() for path in files)
    if not _info(location):
        return None
    filesystem, path = connect(location)
    with asking(location):
        return sorted(name.removeprefix(path.rstrip("/") + "/") for name in filesystem.find(path))


@contextmanager
def open_input(location: Location) -> Iterator[BinaryIO]:
    """The bytes of a file, read as they are asked for."""
    if isinstance(location, Path):
        with _there(location).open("rb") as file:
            yield file
    else:
        filesystem, path = connect(location)
        with filesystem.open(path, "rb") as file:
            yield file


def fingerprint(location: Location) -> str:
    """What changes when a file's content does: its hash, or in a store its size and entity tag."""
    if isinstance(location, Path):
        with _there(location).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    info = _info(location)
    tag = next((info[key] for key in ("ETag", "etag", "mtime") if info.get(key)), "")
    return f"{info['size']} bytes {tag}".strip()


def _there(path: Path) -> Path:
    """Where a file's bytes lie."""
    return standard_input.spooled() if path == STDIN else path


def _info(uri: str) -> dict[str, Any]:
    """Empty where there is nothing."""
    filesystem, path = connect(uri)
    with asking(uri), suppress(FileNotFoundError):
        return filesystem.info(path)
    return {}
