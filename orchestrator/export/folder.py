"""`verbatim export`: stored prompts as files that other programs read.

Owns: the exported folder: which rows go in, its files, that it is whole or not there. Must not know: engines.

    FOLDER/prompts.safetensors    one (K, D) tensor a text
    FOLDER/index.jsonl            one line a text: which tensor, what it says
    FOLDER/vllm_requests.jsonl    one line a text: body of a request to /v1/completions
    FOLDER/README.md              how to use them

K soft-prompt vectors, D hidden size.
"""

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from engine.frozen_lm import DTYPES
from orchestrator.console.errors import UserError
from orchestrator.export.readme import readme
from orchestrator.results import run_record
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.run_record import RunRecord
from orchestrator.results.stored_prompt import usable
from orchestrator.storage.location import Location, require_folder

FORMAT_VERSION = 1
COLUMNS = ["id", "row", "text", "token_ids", "status", "reason", "exact", "engine", "engine_dtype", "prompt",
           "num_vectors", "hidden_size", "min_margin"]  # fmt: skip


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

    def line(self) -> str:
        left = f" ({self.num_left_out} rows that are not exact left out)" if self.num_left_out else ""
        return f"{self.num_prompts} prompts in {self.dtype} exported to {self.folder}{left}"


def export(folder: Location, out: Path, *, ids: Sequence[str] | None, dtype: str, with_inexact: bool) -> Exported:
    """Write stored prompts to a new folder. The run's folder is read and nothing else.

    Args:
        folder: of a run.
        out: must not exist, or be empty.
        ids: of the texts, or None for all.
        dtype: `float32` keeps every bit; the others round.
        with_inexact: take every row that holds a prompt.
    Raises:
        UserError: unknown dtype or id, nothing to export, `out` is taken, a stored prompt is damaged.
    """
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    record = run_record.require_record(folder)
    _check_out(out, folder)
    chosen, num_left_out = _choose(folder, ids, with_inexact)
    prompts = {f"prompt-{n:05d}": _prompt(row, record, dtype) for n, row in enumerate(chosen)}
    with _whole_or_not_at_all(out) as temporary:
        (temporary / "prompts.safetensors").write_bytes(save(prompts, _metadata(record, dtype)))
        named = list(zip(prompts, chosen, strict=True))
        _write_lines(temporary / "index.jsonl", (_entry(name, row) for name, row in named))
        requests = (_request(prompts[name], row, record) for name, row in named)
        _write_lines(temporary / "vllm_requests.jsonl", requests)
        (temporary / "README.md").write_text(readme(record, num_prompts=len(prompts), dtype=dtype), encoding="utf-8")
    return Exported(out, len(prompts), num_left_out, dtype)


def _check_out(out: Path, folder: Location) -> None:
    if isinstance(folder, Path) and out.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--out {out}: lies in the run's folder; choose another")
    require_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out}: not empty; choose another or empty it")


def _choose(folder: Location, ids: Sequence[str] | None, with_inexact: bool) -> tuple[list[Row], int]:
    """The rows to export in corpus order, and how many others there are to which that does not apply."""
    ledger = Ledger(folder)
    committed = ledger.committed_ids()
    if unknown := [id for id in ids or () if id not in committed]:
        raise UserError(f"--id {min(unknown)}: {folder} has no such row")
    chosen, num_left_out = [], 0
    for row in ledger.read(COLUMNS):
        if ids is not None and row["id"] not in ids:
            continue
        if row["exact"] or (with_inexact and row["prompt"] is not None):
            chosen.append(row)
        elif ids is None:
            num_left_out += 1
        else:
            remedy = "" if row["prompt"] is None else "; add --all to export its prompt"
            raise UserError(f"--id {row['id']}: this row is {row['status']} ({row['reason']}), not exact{remedy}")
    if not chosen:
        remedy = "no row holds a prompt" if with_inexact else "no row is exact; --all takes every row with a prompt"
        raise UserError(f"{folder}: nothing to export, {remedy}")
    return sorted(chosen, key=lambda row: row["row"]), num_left_out


def _prompt(row: Row, record: RunRecord, dtype: str) -> Tensor:
    prompt_KD = torch.from_numpy(usable(row, record.model).prompt_KD.copy()).to(DTYPES[dtype])
    if not prompt_KD.isfinite().all():
        raise UserError(f"--dtype {dtype}: the prompt of {row['id']} has values beyond its range; take bfloat16")
    return prompt_KD


def _metadata(record: RunRecord, dtype: str) -> dict[str, str]:
    model = record.model
    return {
        "format": "verbatim prompts", "format_version": str(FORMAT_VERSION), "model": model.name,
        "revision": model.revision or "", "fingerprint": model.fingerprint, "hidden_size": str(model.hidden_size),
        "dtype": dtype,
    }  # fmt: skip


def _entry(name: str, row: Row) -> dict[str, Any]:
    """A line of the index. `exact`, `engine` and `engine_dtype` are the verifier's, of the float32 prompt."""
    keys = ("id", "text", "token_ids", "num_vectors", "min_margin", "exact", "engine", "engine_dtype")
    return {"tensor": name, **{key: row[key] for key in keys}, "max_tokens": len(row["token_ids"])}


def _request(prompt_KD: Tensor, row: Row, record: RunRecord) -> dict[str, Any]:
    """A plain greedy request; what a server could add from a model's generation settings is switched off, further end
    tokens included."""
    content = io.BytesIO()
    torch.save(prompt_KD, content)
    return {
        "model": record.model.name,
        "prompt_embeds": base64.b64encode(content.getvalue()).decode("ascii"),
        "max_tokens": len(row["token_ids"]),
        "temperature": 0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "ignore_eos": True,
        "stop_token_ids": row["token_ids"][-1:] if record.recipe.end_of_text else [],
    }


def _write_lines(path: Path, entries: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(entry) + "\n" for entry in entries)


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
