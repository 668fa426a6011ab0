"""Where a run's texts come from: a corpus, or rows of an earlier run; and what the run takes over from that one.

Owns: the rules of `--from`. Must not know: how rows are read, what becomes of them.
"""

from dataclasses import dataclass
from pathlib import Path

from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe, recipe_of
from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading, short_name
from orchestrator.results.run_record import RunRecord, require_record
from orchestrator.storage.location import Location, absolute, parse_location
from orchestrator.work.item import TERMINAL

USUAL_STATUSES = "unsolved,rejected"
USUAL_MODEL = "pocket"


@dataclass(frozen=True)
class Origin:
    """Where texts come from.

    Attributes:
        location: of the corpus, or of the earlier run's folder.
        statuses: rows of the earlier run that are taken, in order of name; none for a corpus.
        record: of the earlier run; None for a corpus.
    """

    location: Location
    statuses: tuple[str, ...] = ()
    record: RunRecord | None = None

    def source(self, model: str | None, revision: str | None) -> ModelSource:
        """The model that is asked for, else the earlier run's."""
        if model is None and self.record is not None:
            return ModelSource(self.record.model.name, revision or self.record.model.revision)
        return ModelSource(model or USUAL_MODEL, revision)

    def recipe(self, path: Path | None, overrides: list[str] | None) -> Recipe:
        """The recipe that is asked for, else the earlier run's; with what is to be another in it."""
        if path is None and self.record is not None:
            return recipe_of(self.record.recipe.model_dump(mode="json"), overrides or [])
        return load_recipe(path, overrides)

    def out(self, out: str | None, source: ModelSource) -> Location:
        """The folder that is asked for, or the usual one.

        Raises:
            UserError: the earlier run's own, or none beside an earlier run.
        """
        if self.record is not None and out is None:
            raise UserError(f"--from {self.location}: give the new run a folder with --out")
        if out is None:
            return Path("runs") / f"{short_name(self.location)}-{Path(source.name).name}"
        place = parse_location(out, "--out")
        if self.record is not None and absolute(place) == absolute(self.location):
            raise UserError(f"--out {out}: is the run that the texts are taken from; choose another folder")
        return place


def find_origin(corpus: str | None, earlier: str | None, statuses: str | None, reading: Reading) -> Origin:
    """What CORPUS, `--from` and `--status` say.

    Raises:
        UserError: none or both of the first two, flags that would be ignored, no run there, an unknown status.
    """
    if earlier is None:
        if corpus is None:
            raise UserError("CORPUS: is missing; give texts, or an earlier run's folder with --from")
        if statuses is not None:
            raise UserError(f"--status {statuses}: chooses rows of an earlier run; give its folder with --from")
        return Origin(parse_location(corpus, "CORPUS"))
    if corpus is not None:
        raise UserError(f"--from {earlier} and CORPUS {corpus}: give one of both")
    if reading != Reading():
        raise UserError(
            f"--from {earlier}: its rows have texts and ids already; leave away what says how to read a corpus "
            "(--text-column, --id-column, --row-ids, --format, --csv-quotes)"
        )
    folder = parse_location(earlier, "--from")
    return Origin(folder, _statuses(USUAL_STATUSES if statuses is None else statuses), require_record(folder))


def _statuses(asked: str) -> tuple[str, ...]:
    named = tuple(sorted({name.strip() for name in asked.split(",")}))
    if unknown := [name for name in named if name not in TERMINAL]:
        raise UserError(f"--status {asked}: {unknown[0]!r} is none; give some of {', '.join(sorted(TERMINAL))}")
    return named
