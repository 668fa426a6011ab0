"""`tune.json`: what a search was started with; a folder goes on only with the same.

Owns: the record, its file, the name that the study gets from it. Must not know: Ray, Optuna.
"""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from engine.adaptation import Adaptation
from engine.recipe import StoredRecipe
from engine.settings import complaint
from engine.strict import Strict
from orchestrator.console.errors import UserError
from orchestrator.results.differences import differences
from orchestrator.storage import folder_lock, open_storage
from tune_spaces.folder import FILE

PlanPoints = tuple[tuple[int, int], ...]
"""(target tokens, vectors) in rising order."""


class TuneRecord(Strict):
    """All that decides what a trial's figures mean, and how recipes are drawn.

    Attributes:
        budget: passes over a text that a recipe may take.
        vector_plan: for recipes that leave K open.
        texts, hold_out: asked for.
        sizes: texts to search with and texts held out, as the corpus had them; None in a folder from before there was
            a difference.
        base: as it suits the model.
        adaptation: what the base that was asked for left to the model; None where it left nothing.
        base_hash: the base recipe's, which tells what it computes; None in a folder from before it was written down.
    """

    corpus: str
    corpus_fingerprint: str
    text_column: str
    id_column: str | None
    model: str
    revision: str | None
    fingerprint: str
    dtype: str
    engine: str
    engine_dtype: str
    base: StoredRecipe
    vector_plan: PlanPoints
    space: str
    space_fingerprint: str
    objective: str
    sampler: str
    stopping: str
    texts: int
    hold_out: int
    budget: float
    seed: int
    sizes: tuple[int, int] | None = None
    base_hash: str | None = None
    adaptation: Adaptation | None = None

    @property
    def num_texts(self) -> int:
        """Texts that trials are compared on."""
        return self.sizes[0] if self.sizes else self.texts

    @property
    def num_hold_out(self) -> int:
        """Texts that the winner meets the base on."""
        return self.sizes[1] if self.sizes else self.hold_out

    @property
    def study_name(self) -> str:
        """Unlike any other search's: the space's name and a fingerprint of everything here."""
        told = self.model_dump_json(exclude={"sizes", "base_hash", "adaptation"})
        digest = hashlib.blake2b(told.encode(), digest_size=6).hexdigest()
        return f"verbatim-{self.space}-{digest}"

    def keep(self, folder: Path) -> None:
        """Write it, or see that the folder was started with the same.

        Raises:
            UserError: it was not; every difference is named.
        """
        earlier = read_record(folder)
        left_out = {"sizes", "adaptation"} | (set() if self.base.revisions else {"base_hash"})
        if earlier is None:
            open_storage(folder).replace({FILE: (self.model_dump_json(indent=1) + "\n").encode()})
        elif earlier.sizes is None and self.sizes is not None:
            raise UserError(
                f"--out {folder}: holds a search of an earlier version, which drew its texts otherwise; choose another "
                "folder"
            )
        elif found := differences(*(each.model_dump(mode="json", exclude=left_out) for each in (earlier, self))):
            raise UserError(
                f"--out {folder}: holds another search ({'; '.join(found)}); choose another folder, or ask for the same"
            )


def read_record(folder: Path) -> TuneRecord | None:
    """The folder's record, or None if nothing is there.

    Raises:
        UserError: the folder holds something else.
    """
    path = folder / FILE
    if not path.is_file():
        if folder.is_dir() and any(not path.name.startswith((folder_lock.FILE, ".")) for path in folder.iterdir()):
            raise UserError(f"--out {folder}: not empty and not a search's folder; choose another or empty it")
        return None
    try:
        return TuneRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = complaint(error).line() if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: not a record of a search ({reason}); choose another --out") from error
