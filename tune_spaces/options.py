"""What a search is asked for.

Owns: the options of `verbatim tune`, and the record they make with what was found. Must not know: Ray, how trials run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.adaptation import Adaptation
from engine.recipe import Recipe
from orchestrator.corpus import Corpus, Reading
from orchestrator.fleet.options import FleetOptions
from orchestrator.storage.location import Location, absolute
from tune_spaces.record import PlanPoints, TuneRecord
from tune_spaces.spaces import Preset, Space


@dataclass(frozen=True)
class TuneOptions(FleetOptions):
    """What the command line asks for.

    Attributes:
        settings: trials, texts, budget and the like; `trials` counts those of earlier calls.
        space: where recipes are drawn from.
        base: what the space leaves open, and what the winner is compared with.
        out: the folder that the search works in.
        callbacks: names of Ray's own that are told of trials.
        kept_at: URI of the folder, where that is in an object store.
        on_change: told when the folder has changed.
        concurrent: trials under way at once; None is as many as the solvers' tables hold with all their texts.
    """

    corpus: Location
    out: Path
    settings: Preset
    space: Space
    base: Recipe
    concurrent: int | None = None
    seed: int = 0
    callbacks: tuple[str, ...] = ()
    kept_at: str | None = None
    on_change: Callable[[], None] = lambda: None
    reading: Reading = field(default_factory=Reading)

    @property
    def place(self) -> Location:
        """Where a person finds the folder."""
        return self.kept_at or self.out

    def suited(self, adaptation: Adaptation | None) -> "TuneOptions":
        """The same from the base recipe as it suits the model."""
        return replace(self, base=adaptation.of(self.base)) if adaptation else self

    def record(
        self,
        corpus: Corpus,
        fingerprint: str,
        dtype: str,
        engine: str,
        points: PlanPoints,
        sizes: tuple[int, int] | None,
        adaptation: Adaptation | None,
    ) -> TuneRecord:
        """All that decides what an outcome means, with the model's fingerprint and what was chosen for it.

        Args:
            sizes: texts to search with and texts held out, as the corpus had them.
            adaptation: what the base left to the model.
        """
        base = self.suited(adaptation).base
        return TuneRecord(
            corpus=absolute(self.corpus),
            corpus_fingerprint=corpus.fingerprint,
            text_column=corpus.text_column,
            id_column=corpus.id_column,
            model=self.source.name,
            revision=self.source.revision,
            fingerprint=fingerprint,
            dtype=dtype,
            engine=engine,
            engine_dtype=self.engine_dtype or dtype,
            base=base,
            vector_plan=points,
            space=self.space.name,
            space_fingerprint=self.space.fingerprint,
            objective=self.settings.objective,
            sampler=self.settings.sampler,
            stopping=self.settings.stopping,
            texts=self.settings.texts,
            hold_out=self.settings.hold_out,
            budget=self.settings.budget,
            seed=self.seed,
            sizes=sizes,
            base_hash=base.hash,
            adaptation=adaptation,
        )
