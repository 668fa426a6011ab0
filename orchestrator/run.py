"""`verbatim run`: from options to a finished folder.

Owns: the order of a run's steps and their shutdown. Must not know: the loop (driver), optimisation (engine).

    options -> checks that write nothing -> actors -> vector plan -> margin -> run.json -> driver -> summary

Shutdown: on success and on an interrupt rows that ended are committed and `run.json` is written, then Ray goes down
and takes every actor with it. A crash leaves what the manifest holds; the same command goes on from there.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import ray
from rich.console import Console

from engine.capacity import VectorPlan, seconds_for
from engine.frozen_lm import TokenRule
from engine.probes import SECONDS as PROBE_S
from engine.recipe import Recipe
from engine.target import decode
from orchestrator import fleet, run_record
from orchestrator.calibrating import settled_plan
from orchestrator.corpus import Corpus, Reading, open_corpus
from orchestrator.digest_set import DigestSet
from orchestrator.driver import OPEN_WINDOW, Driver
from orchestrator.errors import Superseded, UserError
from orchestrator.fleet_options import FleetOptions
from orchestrator.in_flight import InFlight
from orchestrator.intake import Intake, Taken, easiest_first
from orchestrator.ledger import SCHEMA_VERSION, Ledger
from orchestrator.location import STDIN, Location, absolute, name_of
from orchestrator.margin_control import (
    EngineNoise,
    EnginePair,
    candidates_of,
    compare,
    load_noise,
    require_same_model,
    save_noise,
    with_margin_for,
)
from orchestrator.metrics import Metrics
from orchestrator.nodes import nodes
from orchestrator.placement import place, room_for_solvers
from orchestrator.progress import Reporter, make_reporter
from orchestrator.retry import make_retry
from orchestrator.roster import Roster
from orchestrator.rows import RowContext
from orchestrator.run_log import LEVELS, RunLog
from orchestrator.run_record import ModelRecord, RunRecord
from orchestrator.solver_actor import SolverInfo
from orchestrator.storage import open_storage
from orchestrator.summary import Summary, summarise
from orchestrator.terminal import say
from orchestrator.verifier import Mode
from orchestrator.watch import Watch
from orchestrator.work_queue import State, WorkQueue


@dataclass(frozen=True)
class RunOptions(FleetOptions):
    """What the command line asks for.

    Attributes:
        log_level: least that goes to the folder's log, one of `LEVELS`.
    """

    corpus: Location
    out: Location
    recipe: Recipe
    reading: Reading = field(default_factory=Reading)
    log_level: str = "info"


@dataclass
class Prepared:
    """A run whose input and folder have been checked; nothing is started or written yet."""

    options: RunOptions
    corpus: Corpus
    tokens: TokenRule
    ledger: Ledger
    record: RunRecord | None
    committed: DigestSet = field(default_factory=DigestSet)
    counts: Counter[str] = field(default_factory=Counter)


def prepare(options: RunOptions) -> Prepared:
    """Check everything that can be checked without a model in memory.

    Raises:
        UserError, ModelError: bad input or configuration; nothing has been written.
    """
    options.require_known()
    if options.log_level not in LEVELS:
        raise UserError(f"--log-level {options.log_level}: must be one of {', '.join(LEVELS)}")
    record = run_record.read_record(options.out)
    corpus = open_corpus(options.corpus, options.reading)
    tokens = TokenRule.load(options.source)
    if record is not None:
        _require_same_run(record, options, corpus)
    _require_room(options.recipe, tokens)
    ledger = Ledger(options.out)
    # Counted in the rows: a call that was killed may have committed more than it wrote down. Also, damage is found now.
    counts = Counter(row["status"] for row in ledger.read(["status"]))
    prepared = Prepared(options, corpus, tokens, ledger, record, ledger.committed_ids(), counts)
    if not prepared.committed:
        Intake(corpus, tokens, options.recipe).require_a_target()
    return prepared


def run(prepared: Prepared, console: Console) -> Summary:
    """Invert every text that has no row yet; the folder's summary, texts of earlier calls included."""
    with open_storage(prepared.options.out).sole_writer(partial(say, console)):
        # Read again: until the folder was held another run may have written to it.
        return _run_alone(prepare(prepared.options), console)


def _run_alone(prepared: Prepared, console: Console) -> Summary:
    options = prepared.options
    if prepared.record is not None and prepared.record.is_finished:
        say(console, f"{options.out} is finished: {len(prepared.committed)} rows, nothing to do")
        return summarise(prepared.ledger, prepared.record)
    dashboard = fleet.connect(options.address, dashboard=options.dashboard)
    reporter = make_reporter(console, prepared.corpus.num_rows)
    if dashboard:
        reporter.say(f"Ray dashboard: http://{dashboard}")
    try:
        return _run_on_ray(prepared, reporter)
    finally:
        reporter.close()
        ray.shutdown()


def _run_on_ray(prepared: Prepared, reporter: Reporter) -> Summary:
    options = prepared.options
    up, is_fixed = nodes(), options.address is None
    placement = place(
        up,
        num_solvers=options.solvers,
        solver_gpus=options.solver_gpus,
        token_budget=options.token_budget,
        is_fixed=is_fixed,
    )
    dtype = options.dtype or placement.dtype
    spec = options.engine_spec(placement, prepared.tokens.context, dtype)
    reporter.say(
        f"{placement.num_solvers} solver(s) on {placement.device} in {dtype}, "
        f"verified by {spec.engine} in {spec.dtype}; loading"
    )
    grows_along = not is_fixed and not options.solvers and placement.solver_gpus > 0
    # Two runs may share a cluster and a folder name, hence the process id.
    name = f"{name_of(options.out)}-{os.getpid()}"
    roster = Roster(
        verifier=fleet.verifier_worker(name, spec, placement),
        hire=lambda index: fleet.solver_worker(name, index, options.source, placement, dtype),
        num_solvers=placement.num_solvers,
        has_room=partial(room_for_solvers, placement=placement) if grows_along else None,
        say=reporter.say,
        fingerprint=prepared.record.model.fingerprint if prepared.record else None,
    )
    if placement.solver_gpus and (room := room_for_solvers(up, placement)) < placement.num_solvers:
        reporter.say(f"the cluster has room for {room} of them yet; the others join when it grows")
    info = roster.first_ready()
    plan = _vector_plan(prepared, roster, reporter)
    engine = roster.ask_verifier(lambda verifier: verifier.ready.remote())
    pair = EnginePair(options.source.name, info.fingerprint, info.device_name, dtype, engine, spec.dtype)
    noise = _engine_noise(options.recipe, plan, pair, roster, reporter)
    recipe = with_margin_for(options.recipe, noise)
    if noise is not None:
        reporter.say(f"engines differ by up to {noise.largest:.2g} logits; margin asked for: {recipe.stop_margin:.2g}")
    record = _new_record(prepared, info, plan, engine, spec.dtype, recipe.stop_margin)
    record.write(options.out)
    grows = options.recipe.num_vectors == "auto"
    # Not before the record: a folder that holds anything else is refused.
    watch = Watch(Metrics(name), RunLog(options.out, options.log_level))
    driver = Driver(
        taken=_taken(prepared, recipe, plan, roster, reporter.say),
        queue=WorkQueue(make_retry(prepared.tokens.context, grows)),
        roster=roster,
        ledger=prepared.ledger,
        in_flight=InFlight(options.out),
        context=RowContext(options.recipe.hash, info.fingerprint, dtype, partial(decode, prepared.tokens)),
        reporter=reporter,
        watch=watch,
        token_budget=placement.token_budget,
        on_commit=lambda driver: _touch(record, driver, prepared, "running"),
        lease_s=options.lease_s,
        num_done=len(prepared.committed),
    )
    with watch.log:
        watch.started(name, total=record.num_rows, done=driver.num_done, num_solvers=len(roster.solvers))
        try:
            driver.run()
        except Superseded:
            raise  # the folder is another run's: nothing more may be written there
        except BaseException as error:
            driver.commit()
            _touch(record, driver, prepared, "interrupted")
            watch.interrupted(error, driver.num_done)
            raise
        _touch(record, driver, prepared, "finished")
        driver.in_flight.clear()
        watch.finished(driver.num_done, driver.seconds)
    return summarise(prepared.ledger, record)


def _taken(
    prepared: Prepared, recipe: Recipe, plan: VectorPlan | None, roster: Roster, say: Callable[[str], None]
) -> Iterator[Taken]:
    """Rows still to come, in the order the recipe's curriculum asks for."""
    taken = Intake(prepared.corpus, prepared.tokens, recipe, plan, prepared.committed, say).taken()
    order = recipe.curriculum.order
    if order == "corpus":
        return taken
    return easiest_first(
        taken, lambda targets: roster.ask(lambda solver: solver.difficulty.remote(order, targets)), OPEN_WINDOW
    )


def _require_same_run(record: RunRecord, options: RunOptions, corpus: Corpus) -> None:
    differences = record.differences(
        options.recipe,
        model=options.source.name,
        revision=options.source.revision,
        corpus=absolute(options.corpus),
        text_column=corpus.text_column,
        id_column=corpus.id_column,
    )
    if differences:
        raise UserError(
            f"--out {options.out}: holds another run ({'; '.join(differences)}); "
            "choose another folder, or ask for the same"
        )
    remedy = "pipe the same in again" if options.corpus == STDIN else "put the old files back"
    if record.corpus_fingerprint not in (None, corpus.fingerprint):  # None: the record is from before there was one
        raise UserError(
            f"corpus {options.corpus}: has changed, or is read another way, since the run in {options.out} began; "
            f"{remedy} and ask for the same --format and --csv-quotes, or choose another --out"
        )


def _require_room(recipe: Recipe, tokens: TokenRule) -> None:
    if recipe.num_vectors != "auto" and recipe.num_vectors >= tokens.context:
        raise UserError(
            f"num_vectors = {recipe.num_vectors}: leaves no room for a text in a context of {tokens.context}; lower it"
        )
    if recipe.end_of_text and tokens.end_id is None:
        raise UserError("end_of_text = true: this model has no end-of-text token; give --set end_of_text=false")


def _vector_plan(prepared: Prepared, roster: Roster, reporter: Reporter) -> VectorPlan | None:
    recipe, num_done = prepared.options.recipe, len(prepared.committed)
    if recipe.num_vectors != "auto":
        return None
    seconds = seconds_for(prepared.corpus.num_rows - num_done)
    return settled_plan(
        lambda: roster.ask(lambda solver: solver.plan.remote(recipe, seconds)),
        seconds,
        reporter.say,
        lambda detail: reporter.update(num_done, detail),
    )


def _engine_noise(
    recipe: Recipe, plan: VectorPlan | None, pair: EnginePair, roster: Roster, reporter: Reporter
) -> EngineNoise | None:
    """How far the two engines' margins lie apart, from the cache or from a handful of texts.

    Raises:
        UserError: they do not compute the same model.
    """
    if recipe.noise_factor == 0:
        return None
    noise = load_noise(pair.key)
    if noise is None:
        apart = "measuring how far the two engines' margins lie apart"
        reporter.say(f"{apart}: about {PROBE_S:.0f} s at most, kept for the next run")
        probes = roster.ask(lambda solver: solver.probes.remote(recipe, plan))
        candidates = candidates_of(probes)
        verdicts = roster.ask_verifier(lambda verifier: verifier.judge.remote(candidates, Mode(margins=True)))
        noise = compare(probes, verdicts)
        require_same_model(probes, noise, pair)
        if noise is not None:
            save_noise(pair.key, noise)
    return noise


def _new_record(
    prepared: Prepared, info: SolverInfo, plan: VectorPlan | None, engine: str, engine_dtype: str, stop_margin: float
) -> RunRecord:
    options, earlier = prepared.options, prepared.record
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        state="running",
        corpus=absolute(options.corpus),
        corpus_fingerprint=prepared.corpus.fingerprint,
        text_column=prepared.corpus.text_column,
        id_column=prepared.corpus.id_column,
        num_rows=prepared.corpus.num_rows,
        model=ModelRecord(
            name=options.source.name,
            revision=options.source.revision,
            fingerprint=info.fingerprint,
            hidden_size=info.hidden_size,
            context=prepared.tokens.context,
            solver_dtype=info.dtype,
            device=info.device_name,
        ),
        recipe=options.recipe,
        recipe_hash=options.recipe.hash,
        seed=options.recipe.seed,
        vector_plan=list(plan.points) if plan else None,
        engine=engine,
        engine_dtype=engine_dtype,
        stop_margin=stop_margin,
        versions=run_record.installed_versions(),
        python=run_record.python_version(),
        started=earlier.started if earlier else run_record.now(),
        updated=run_record.now(),
        counts=dict(prepared.counts),
        retries=earlier.retries if earlier else {},
        seconds=earlier.seconds if earlier else 0.0,
    )


def _touch(record: RunRecord, driver: Driver, prepared: Prepared, state: str) -> None:
    """Bring `run.json` up to date: state, counts and retries over all calls, seconds."""
    earlier = prepared.record
    counts = dict(prepared.counts)
    for status, count in driver.queue.counts.items():
        if status in (State.PENDING, State.LEASED, State.CANDIDATE):
            continue
        counts[str(status)] = counts.get(str(status), 0) + count
    record.state = state
    record.counts = counts
    record.retries = dict(driver.watch.retries + Counter(earlier.retries if earlier else {}))
    record.updated = run_record.now()
    record.seconds = (earlier.seconds if earlier else 0.0) + driver.seconds
    record.write(prepared.options.out)
