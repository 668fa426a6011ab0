"""`verbatim export`: stored prompts as files that other programs read.

Owns: the exported folder: that it is whole or not there, what is in it whatever the format. Must not know: engines.
Prompts pass through a shard at a time.

    FOLDER/index.jsonl   one line a text: which prompt, what it says
    FOLDER/README.md     how to use them; a model card for the hub
    FOLDER/...           what the formats asked for write: `formats`
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.frozen_lm import DTYPES
from orchestrator.console.errors import UserError
from orchestrator.export.chosen import Chosen, Shard, choose
from orchestrator.export.formats import DEFAULT, FORMATS, TENSORS, add_lines
from orchestrator.export.readme import readme
from orchestrator.results import run_record
from orchestrator.results.ledger import Row
from orchestrator.storage.location import Location, require_folder


@dataclass(frozen=True)
class Exported:
    """What went into a folder.

    Attributes:
        num_left_out: rows of the run that are not exact and were not asked for by `with_inexact`.
    """

    folder: Path
    num_prompts: int
    num_left_out: int
    dtype: str
    formats: tuple[str, ...] = DEFAULT

    def line(self) -> str:
        left = f" ({self.num_left_out} rows that are not exact left out)" if self.num_left_out else ""
        return f"{self.num_prompts} prompts in {self.dtype} exported to {self.folder}{left}"


def export(
    folder: Location,
    out: Path,
    *,
    ids: Sequence[str] | None,
    dtype: str,
    with_inexact: bool,
    formats: Sequence[str] = DEFAULT,
) -> Exported:
    """Write stored prompts to a new folder. The run's folder is read and nothing else.

    Args:
        folder: of a run.
        out: must not exist, or be empty.
        ids: of the texts, or None for all.
        dtype: `float32` keeps every bit; the others round.
        with_inexact: take every row that holds a prompt.
        formats: names of `FORMATS`.
    Raises:
        UserError: unknown format, dtype or id, nothing to export, `out` is taken, a stored prompt is damaged.
    """
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"--format {unknown[0]}: must be one of {', '.join(FORMATS)}")
    record = run_record.require_record(folder)
    _check_out(out, folder)
    chosen = choose(folder, record, ids=ids, dtype=dtype, with_inexact=with_inexact)
    wanted = tuple(name for name in FORMATS if name in formats)
    with _whole_or_not_at_all(out) as temporary:
        for shard in chosen.shards():
            add_lines(
                temporary / "index.jsonl", (_entry(name, row, chosen, shard, wanted) for name, row in shard.named)
            )
            for name in wanted:
                FORMATS[name](chosen, shard, temporary)
        (temporary / "README.md").write_text(readme(chosen, formats=wanted), encoding="utf-8")
    return Exported(out, len(chosen), chosen.num_left_out, dtype, wanted)


def _check_out(out: Path, folder: Location) -> None:
    if isinstance(folder, Path) and out.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--out {out}: lies in the run's folder; choose another")
    require_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out}: not empty; choose another or empty it")


def _entry(name: str, row: Row, chosen: Chosen, shard: Shard, formats: Sequence[str]) -> dict[str, Any]:
    """A line of the index. `exact`, `engine` and `engine_dtype` are the verifier's, of the float32 prompt."""
    keys = ("id", "text", "token_ids", "num_vectors", "min_margin", "exact", "engine", "engine_dtype")
    file = {"file": chosen.file(*TENSORS, shard.number)} if "safetensors" in formats else {}
    return {"tensor": name, **file, **{key: row[key] for key in keys}, "max_tokens": len(row["token_ids"])}


@contextmanager
def _whole_or_not_at_all(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, or goes away."""
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
