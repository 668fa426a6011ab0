"""The files of a corpus: one file, standard input, or a folder of parts.

Owns: which files of a folder count and in which order, what their paths say. Must not know: what is in them.

A folder is read as Spark, Hive and Hugging Face leave it: parts at any depth, in the order of their paths; names that
begin with `.` or `_` are not data; `key=value` in a path is a column; a folder of `save_to_disk` names its parts. A
table of Delta Lake whose log takes files away is none of these: what was deleted would be a text again.
"""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from orchestrator.console.errors import UserError
from orchestrator.corpus import formats
from orchestrator.storage.location import (
    STDIN,
    Location,
    files_below,
    fingerprint,
    first_line,
    is_file,
    join,
    name_of,
    open_input,
)

MAX_ABOUT = 1 << 24
"""Bytes of such a file that are read: more than the names of any data set's parts."""

NULL = "__HIVE_DEFAULT_PARTITION__"
STATE, SPLITS = "state.json", "dataset_dict.json"
ABOUT = (STATE, SPLITS, "dataset_info.json", "dataset_infos.json")
"""Files of Hugging Face's that tell of the data beside them."""


DELTA_LOG, REMOVE = "/_delta_log/", b'"remove":'
"""Where Delta Lake keeps its log, and the action by which a file does not count any more."""


@dataclass(frozen=True)
class Part:
    """A file of a corpus.

    Attributes:
        name: its path in the corpus's folder; empty where the corpus is this one file.
        format: one of `FORMATS`.
        keys: columns that its path gives, the same value in every row.
    """

    location: Location
    name: str
    format: str
    keys: dict[str, str | None] = field(default_factory=dict)


def find_parts(path: Location, format: str | None, headers: tuple[str, ...]) -> list[Part]:
    """The files of a corpus.

    Args:
        format: of all files, if the user has named one; of a folder it chooses the files that are read.
        headers: columns that a table would have.
    Raises:
        UserError: no such file, none in the folder, files of several formats or of none that is known, files that are
            there and do not count.
    """
    if path == STDIN:
        return [Part(path, "", format or _of_standard_input(headers))]
    if is_file(path):
        return [Part(path, "", format or _of_file(path))]
    names = files_below(path)
    if names is None:
        raise UserError(f"corpus {path}: {_in_place_of_file(path)}")
    _require_nothing_removed(path, [name for name in names if DELTA_LOG in f"/{name}"])
    if STATE in names:
        return [Part(join(path, name), name, "arrow") for name in _named_by(path, STATE)]
    if SPLITS in names:
        return _of_splits(path, _named_by(path, SPLITS))
    return _of_folder(path, [name for name in names if _is_data(name)], format)


def _in_place_of_file(path: Location) -> str:
    if isinstance(path, Path) and path.exists():
        return "is a pipe or a device; what comes through one is read as standard input, as with: ... | verbatim run -"
    return f"no such file; give {formats.LISTED}, or a folder of them"


def _require_nothing_removed(path: Location, log: list[str]) -> None:
    """A log that was condensed, or is longer than what is looked at, may say so where nobody looks."""
    for name in log:
        with open_input(join(path, name)) as source:
            content = b"" if (is_condensed := ".checkpoint" in name) else source.read(MAX_ABOUT + 1)
        if is_condensed or REMOVE in content or len(content) > MAX_ABOUT:
            raise UserError(
                f"corpus {path}: is or holds a table of Delta Lake some of whose files may not count any more; write "
                "what it holds as Parquet in a folder of its own"
            )


def fingerprint_of(path: Location, parts: list[Part]) -> str:
    """Another one where any part has changed, come or gone."""
    if not parts[0].name:
        return fingerprint(path)
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{part.name}\0{fingerprint(part.location)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _of_file(path: Location) -> str:
    name = name_of(path).name
    if format := formats.format_of(name):
        return format
    raise UserError(f"corpus {path}: unknown kind {name_of(path).suffix}; say what it is with {formats.FLAG}")


def _of_standard_input(headers: tuple[str, ...]) -> str:
    with open_input(STDIN) as source:
        if format := formats.recognised(source, headers):
            return format
    raise UserError(f"corpus {STDIN}: standard input looks like a table; say what it is with {formats.FLAG}")


def _of_folder(path: Location, names: list[str], asked: str | None) -> list[Part]:
    found = {name: formats.format_of(name) for name in names if name_of(name).suffix}
    kinds = sorted({kind for kind in found.values() if kind})
    if asked is None and len(kinds) > 1:
        raise UserError(f"corpus {path}: holds {' and '.join(kinds)} files; say which are meant with --format")
    nameless = [name for name in names if not name_of(name).suffix]
    if not kinds and nameless:
        if asked is None:
            raise UserError(f"corpus {path}: its files have no endings; say what they are with {formats.FLAG}")
        found, kinds = dict.fromkeys(nameless, asked), [asked]
    if (wanted := asked or next(iter(kinds), None)) not in kinds:
        raise UserError(f"corpus {path}: the folder holds no {asked or 'corpus'} files; give a folder that does")
    return [Part(join(path, name), name, kind, _keys(name)) for name, kind in found.items() if kind and kind == wanted]


def _named_by(path: Location, file: str) -> list[str]:
    """Names of the parts, or of the splits, in the order that a file of `save_to_disk` gives them."""
    with open_input(join(path, file)) as source:
        content = source.read(MAX_ABOUT)
    try:
        told = json.loads(content)
        return [name_of(each["filename"]).name for each in told["_data_files"]] if file == STATE else told["splits"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"corpus {join(path, file)}: not as `save_to_disk` writes it ({first_line(error)})") from error


def _of_splits(path: Location, splits: list[str]) -> list[Part]:
    if len(splits) != 1:
        raise UserError(f"corpus {path}: holds {len(splits)} data sets; give one of {', '.join(splits)} in that folder")
    split = join(path, name_of(str(splits[0])).name)
    return [Part(join(split, name), name, "arrow") for name in _named_by(split, STATE)]


def _is_data(name: str) -> bool:
    steps = PurePosixPath(name).parts
    return steps[-1] not in ABOUT and not any(
        step.startswith(".") or (step.startswith("_") and "=" not in step) for step in steps
    )


def _keys(name: str) -> dict[str, str | None]:
    """The columns that a path gives, as Hive writes them."""
    pairs = (step.partition("=") for step in PurePosixPath(name).parts[:-1] if "=" in step)
    return {unquote(key): None if value == NULL else unquote(value) for key, _, value in pairs}
