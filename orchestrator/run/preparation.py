"""Before a run: what it is asked for, and everything that can be checked without a model in memory.

Owns: options, checks that write nothing, what they find. Must not know: actors, the loop.
"""

from collections import Counter
from dataclasses import dataclass, field

from engine.correction.start import require_start
from engine.frozen_lm import TokenRule
from engine.loading import require_whole_files
from engine.recipe import Recipe
from orchestrator.console.errors import UserError
from orchestrator.corpus import Corpus, Reading, open_corpus
from orchestrator.corpus.intake import Intake
from orchestrator.corpus.selection import Selection
from orchestrator.fleet.options import FleetOptions
from orchestrator.fleet.verifier_actor import ENGINES
from orchestrator.results import run_record
from orchestrator.results.ledger import Ledger
from orchestrator.results.run_log import LEVELS
from orchestrator.results.run_record import RunRecord
from orchestrator.run.earlier_rows import open_earlier
from orchestrator.storage.digest_set import DigestSet
from orchestrator.storage.location import STDIN, Location, absolute


@dataclass(frozen=True)
class RunOptions(FleetOptions):
    """What the command line asks for.

    Attributes:
        statuses: rows that are taken from the earlier run in `corpus`; none where that is a corpus.
        selection: the rows of the corpus that are meant.
        log_level: least that goes to the folder's log, one of `LEVELS`.
    """

    corpus: Location
    out: Location
    recipe: Recipe
    reading: Reading = field(default_factory=Reading)
    statuses: tuple[str, ...] = ()
    selection: Selection = Selection()
    log_level: str = "info"

    @property
    def from_status(self) -> str | None:
        """Which rows of an earlier run these are, as its record tells it."""
        return ",".join(self.statuses) or None

    def open_corpus(self) -> Corpus:
        """The texts, wherever they come from.

        Raises:
            UserError: there are none, or they cannot be read.
        """
        return open_earlier(self.corpus, self.statuses) if self.statuses else open_corpus(self.corpus, self.reading)


@dataclass
class Prepared:
    """A run whose input and folder have been checked; nothing is started or written yet.

    Attributes:
        record: the folder's; None where it holds no run yet.
        committed: ids that have their row in the folder.
        counts: of these rows by status.
        num_to_come: rows that are meant and have none.
    """

    options: RunOptions
    corpus: Corpus
    token_rule: TokenRule
    ledger: Ledger
    record: RunRecord | None
    committed: DigestSet = field(default_factory=DigestSet)
    counts: Counter[str] = field(default_factory=Counter)
    num_to_come: int = 0

    @property
    def num_rows(self) -> int:
        """Of the folder when the run is finished."""
        return len(self.committed) + self.num_to_come

    @property
    def num_appended(self) -> int:
        """Rows that the corpus did not have when the folder was last written to."""
        before = self.record.corpus_rows if self.record else None
        return self.corpus.num_rows - before if before is not None else 0

    @property
    def is_finished(self) -> bool:
        """Whether the folder already holds all that is meant."""
        return self.record is not None and self.record.is_finished and not self.num_to_come

    def require_same_proof(self, engine: str, dtype: str | None) -> None:
        """Refuse to go on with another verifier than the folder's rows have: `exact` would mean two things in it.

        Args:
            engine: that is to verify the rows to come.
            dtype: its numerics; None where they are not known yet.
        Raises:
            UserError: the folder has rows of another engine or other numerics.
        """
        if self.record is None or not self.committed:
            return
        was, said = self.record.engine.partition(" ")[0], f"{self.record.engine} in {self.record.engine_dtype}"
        if was in ENGINES and was != engine:
            flag, is_asked, remedy = "--engine", engine, f"--engine {was}"
        elif dtype not in (None, self.record.engine_dtype):
            flag, is_asked, remedy = "--verify-dtype", dtype, f"--verify-dtype {self.record.engine_dtype}"
        else:
            return
        raise UserError(
            f"{flag} {is_asked}: the {len(self.committed)} rows in {self.options.out} are verified by {said}; "
            f"go on with {remedy}, or choose another --out"
        )

    @property
    def intake(self) -> Intake:
        """The rows to come, without a vector plan and a served length."""
        options = self.options
        return Intake(self.corpus, self.token_rule, options.recipe, skip=self.committed, selection=options.selection)


def prepare(options: RunOptions) -> Prepared:
    """Check everything that can be checked without a model in memory.

    Raises:
        UserError, ModelError: bad input or configuration; nothing has been written.
    """
    options.require_known()
    if options.log_level not in LEVELS:
        raise UserError(f"--log-level {options.log_level}: must be one of {', '.join(LEVELS)}")
    record = run_record.read_record(options.out)
    corpus = options.open_corpus()
    token_rule = TokenRule.load(options.source)
    require_whole_files(options.source)
    require_start(options.recipe.start)
    if record is not None:
        _require_same_run(record, options, corpus)
    _require_room(options.recipe, token_rule)
    ledger = Ledger(options.out)
    # Counted in the rows: a call that was killed may have committed more than it wrote down. Also, damage is found now.
    counts = Counter(row["status"] for row in ledger.read(["status"]))
    prepared = Prepared(options, corpus, token_rule, ledger, record, ledger.committed_ids(), counts)
    if options.selection.is_everything:
        prepared.num_to_come = max(0, corpus.num_rows - len(prepared.committed))
    else:
        prepared.num_to_come = prepared.intake.num_to_come()
    if not prepared.committed:
        prepared.intake.require_a_target()
    if not prepared.is_finished:
        prepared.require_same_proof(options.engine, options.engine_dtype)
    return prepared


def _require_same_run(record: RunRecord, options: RunOptions, corpus: Corpus) -> None:
    differences = record.differences(
        options.recipe,
        model=options.source.name,
        revision=options.source.revision,
        corpus=absolute(options.corpus),
        from_status=options.from_status,
        text_column=corpus.text_column,
        id_column=corpus.id_column,
    )
    if differences:
        raise UserError(
            f"--out {options.out}: holds another run ({'; '.join(differences)}); "
            "choose another folder, or ask for the same"
        )
    if not _begins_with_the_same(corpus, record):
        if options.statuses:
            raise UserError(
                f"--from {options.corpus}: its rows have changed since the run in {options.out} began; "
                "choose another --out"
            )
        remedy = "pipe the same in again" if options.corpus == STDIN else "put the old files back"
        raise UserError(
            f"corpus {options.corpus}: has changed, or is read another way, since the run in {options.out} began, and "
            f"not by texts appended at its end; {remedy} and ask for the same --format and --csv-quotes, "
            "or choose another --out"
        )


def _begins_with_the_same(corpus: Corpus, record: RunRecord) -> bool:
    """Whether the rows that the run's corpus had are there as they were, first and in their order."""
    if record.corpus_fingerprint in (None, corpus.fingerprint):  # None: the record is from before there was one
        return True
    if record.corpus_rows is None or record.corpus_rows > corpus.num_rows:
        return False
    return corpus.digest(record.corpus_rows) == record.rows_digest


def _require_room(recipe: Recipe, token_rule: TokenRule) -> None:
    if recipe.num_vectors != "auto" and recipe.num_vectors >= token_rule.context:
        raise UserError(
            f"num_vectors = {recipe.num_vectors}: leaves no room for a text in a context of {token_rule.context}; "
            "lower it"
        )
    if recipe.end_of_text and token_rule.end_id is None:
        raise UserError("end_of_text = true: this model has no end-of-text token; give --set end_of_text=false")
