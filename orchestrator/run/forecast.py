"""What a run would do, found without starting it: targets, invalid rows, lengths, memory, work.

Owns: one pass over the corpus and the figures from it. Must not know: Ray, how they are told.

Nothing is written, and of the model its configuration, its tokenizer and the sizes of its files are read.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

from engine.capacity import VectorPlan
from engine.footprint import Footprint
from engine.recipe import Recipe
from orchestrator.console.progress import Reporter
from orchestrator.corpus.intake import Accepted, Refused
from orchestrator.run.experience import Experience, find_experience
from orchestrator.run.preparation import Prepared
from orchestrator.sizing.here import memories_here, node_here
from orchestrator.sizing.placement import place
from orchestrator.sizing.room import Tenancy, need_of_corpus, room_in

FIRST_IDS = 5
"""Ids named for each reason."""


@dataclass
class Invalid:
    """Rows that one reason refuses, and the first few of them."""

    count: int = 0
    ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Lengths:
    """Of the targets, in tokens."""

    shortest: int
    median: int
    longest: int


@dataclass(frozen=True)
class Given:
    """What the run would be given here.

    Attributes:
        free, total: bytes of the machine, or of the fullest card.
        weights: bytes of the model, in the solver's numerics.
        table: positions of each solver's table at its start.
        served: positions of a soft prompt, its target and what is decoded past it, at most.
    """

    device: str
    num_solvers: int
    dtype: str
    engine_dtype: str
    free: int
    total: int
    weights: int
    table: int
    served: int


@dataclass(frozen=True)
class Work:
    """How much there is to do.

    Attributes:
        num_vectors: of all targets, at their first attempts.
        are_vectors_known: false where a run would have to measure them; then a vector a token is counted, the most.
        positions: of all targets with their vectors: what one pass over each takes.
        most_passes: over a text: all steps of all attempts of all siblings.
        expected: positions in all, by an earlier run under the same recipe; None without one.
        seconds: that these take at its rate.
    """

    num_vectors: int
    are_vectors_known: bool
    positions: int
    most_passes: int
    expected: int | None
    seconds: float | None
    experience: Experience | None


@dataclass(frozen=True)
class Forecast:
    """A run that has not been started.

    Attributes:
        num_rows: of the corpus.
        selection: which of them are meant.
        num_done: rows that have their result in the folder.
        num_targets: rows still to come that a run would work on.
        invalid: rows still to come that it would refuse, by reason.
        given: None where the run would join a cluster, whose memory only its nodes can tell.
    """

    corpus: str
    out: str
    model: str
    engine: str
    recipe: Recipe
    num_rows: int
    selection: str
    num_done: int
    num_targets: int
    invalid: dict[str, Invalid]
    tokens: Lengths | None
    given: Given | None
    work: Work


@dataclass
class _Seen:
    """What one pass over the corpus has met."""

    lengths: Counter[int] = field(default_factory=Counter)
    num_vectors: int = 0
    invalid: dict[str, Invalid] = field(default_factory=dict)


def foretell(prepared: Prepared, reporter: Reporter) -> Forecast:
    """Read the corpus as the run would.

    Raises:
        UserError, ModelError: the model does not fit, or a file turns out to be damaged.
    """
    options = prepared.options
    experience = find_experience(options.out, options.source, options.recipe)
    given = None if options.address else _given(prepared)
    # Another recipe may have found other vectors.
    plan = experience.plan if experience and experience.is_same_recipe else None
    seen = _look_through(prepared, plan, given.served if given else None, reporter)
    return Forecast(
        corpus=str(options.corpus) + (f" ({options.from_status})" if options.statuses else ""),
        out=str(options.out),
        model=options.source.name,
        engine=options.engine,
        recipe=options.recipe,
        num_rows=prepared.corpus.num_rows,
        selection=str(options.selection),
        num_done=len(prepared.committed),
        num_targets=seen.lengths.total(),
        invalid=seen.invalid,
        tokens=_lengths(seen.lengths),
        given=given,
        work=_work(seen, options.recipe, plan, experience),
    )


def _given(prepared: Prepared) -> Given:
    options = prepared.options
    placement = place(
        [node_here()],
        num_solvers=options.solvers,
        num_verifiers=options.verifiers,
        solver_gpus=options.solver_gpus,
        table_positions=options.table_positions,
    )
    dtype = options.dtype or placement.dtype
    engine_dtype = options.engine_dtype or dtype
    served = prepared.record.model.was_served if prepared.record else None
    footprint = Footprint.of(options.source, prepared.token_rule.context)
    need = need_of_corpus(prepared.intake.taken(), options.recipe)
    least = min(memories_here(), key=lambda memory: memory.free)
    room = room_in(least, Tenancy(options.source, placement, dtype, engine_dtype, served), 1, need, footprint)
    return Given(
        placement.device, placement.num_solvers, dtype, engine_dtype, least.free, least.total,
        footprint.weights_bytes(dtype), room.placement.table_positions, room.served_length,
    )  # fmt: skip


def _look_through(prepared: Prepared, plan: VectorPlan | None, served: int | None, reporter: Reporter) -> _Seen:
    seen, recipe = _Seen(), prepared.options.recipe
    has_no_vectors = recipe.num_vectors == "auto" and plan is None
    intake = replace(prepared.intake, plan=plan, served_length=served)
    for number, item in enumerate(intake.taken(), 1):
        if isinstance(item, Refused):
            invalid = seen.invalid.setdefault(str(item.why.reason), Invalid())
            invalid.count += 1
            if len(invalid.ids) < FIRST_IDS:
                invalid.ids.append(item.id)
        else:
            assert isinstance(item, Accepted)
            num_tokens = len(item.job.target.token_ids)
            seen.lengths[num_tokens] += 1
            seen.num_vectors += num_tokens if has_no_vectors else item.job.num_vectors
        reporter.update(len(prepared.committed) + number, "read, nothing started")
    return seen


def _lengths(lengths: Counter[int]) -> Lengths | None:
    if not lengths:
        return None
    middle, ordered = (lengths.total() + 1) // 2, sorted(lengths)
    num_below = 0
    for length in ordered:
        num_below += lengths[length]
        if num_below >= middle:
            return Lengths(ordered[0], length, ordered[-1])
    raise AssertionError("half of the texts are some length or shorter")


def _work(seen: _Seen, recipe: Recipe, plan: VectorPlan | None, experience: Experience | None) -> Work:
    positions = sum(length * count for length, count in seen.lengths.items()) + seen.num_vectors
    is_told = experience is not None and experience.is_same_recipe
    expected = round(experience.passes * positions) if experience and is_told else None
    return Work(
        num_vectors=seen.num_vectors,
        are_vectors_known=recipe.num_vectors != "auto" or plan is not None,
        positions=positions,
        most_passes=recipe.max_steps * recipe.attempts * recipe.siblings,
        expected=expected,
        seconds=expected / experience.rate if experience and expected is not None else None,
        experience=experience,
    )
