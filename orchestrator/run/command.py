"""`verbatim run`: from options to a finished folder.

Owns: the order of a run's steps and their shutdown. Must not know: the loop (driver), optimisation (engine).

    options -> checks that write nothing -> actors -> vector plan -> margin -> run.json -> driver -> summary

Shutdown: on success and on an interrupt rows that ended are committed and `run.json` is written, then Ray goes down
and takes every actor with it. A crash leaves what the manifest holds; the same command goes on from there.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial

import ray
from rich.console import Console

from engine.capacity import VectorPlan, seconds_for
from engine.probes import SECONDS as PROBE_S
from engine.recipe import Recipe
from engine.target import decode
from orchestrator.cluster.nodes import Node, nodes
from orchestrator.console.errors import Superseded
from orchestrator.console.progress import Reporter, make_reporter
from orchestrator.console.terminal import say
from orchestrator.corpus.intake import Intake, Taken, easiest_first
from orchestrator.fleet import workers
from orchestrator.fleet.roster import Roster
from orchestrator.measured.calibrating import settled_plan
from orchestrator.measured.margin_control import (
    EngineNoise,
    EnginePair,
    candidates_of,
    compare,
    load_noise,
    require_same_model,
    save_noise,
    with_margin_for,
)
from orchestrator.results.in_flight import InFlight
from orchestrator.results.run_log import RunLog
from orchestrator.results.summary import Summary, summarise
from orchestrator.run.driver import OPEN_WINDOW, Driver
from orchestrator.run.metrics import Metrics
from orchestrator.run.preparation import Prepared, RunOptions, prepare
from orchestrator.run.record_keeping import new_record, touch
from orchestrator.run.rows import RowContext
from orchestrator.run.watch import Watch
from orchestrator.sizing.placement import Placement, place, room_for_solvers
from orchestrator.sizing.room import Room, need_of_corpus
from orchestrator.storage import open_storage
from orchestrator.storage.location import name_of
from orchestrator.verifiers.contract import Mode
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue

__all__ = ["Prepared", "RunOptions", "prepare", "run"]


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
    dashboard = workers.connect(options.address, dashboard=options.dashboard)
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
    room = _room(prepared, placement, up)
    placement = room.placement
    spec = options.engine_spec(room, dtype)
    reporter.say(
        f"{placement.num_solvers} solver(s) on {placement.device} in {dtype}, "
        f"verified by {spec.engine} in {spec.dtype}; loading"
    )
    grows_along = not is_fixed and not options.solvers and placement.solver_gpus > 0
    # Two runs may share a cluster and a folder name, hence the process id.
    name = f"{name_of(options.out)}-{os.getpid()}"
    roster = Roster(
        verifier=workers.verifier_worker(name, spec, placement),
        hire=lambda index: workers.solver_worker(name, index, options.source, placement, dtype),
        num_solvers=placement.num_solvers,
        has_room=partial(room_for_solvers, placement=placement) if grows_along else None,
        say=reporter.say,
        fingerprint=prepared.record.model.fingerprint if prepared.record else None,
    )
    if placement.solver_gpus and (seats := room_for_solvers(up, placement)) < placement.num_solvers:
        reporter.say(f"the cluster has room for {seats} of them yet; the others join when it grows")
    info = roster.first_ready()
    plan = _vector_plan(prepared, roster, reporter)
    engine = roster.ask_verifier(lambda verifier: verifier.ready.remote())
    pair = EnginePair(options.source.name, info.fingerprint, info.device_name, dtype, engine, spec.dtype)
    noise = _engine_noise(options.recipe, plan, pair, roster, reporter)
    recipe = with_margin_for(options.recipe, noise)
    if noise is not None:
        reporter.say(f"engines differ by up to {noise.largest:.2g} logits; margin asked for: {recipe.stop_margin:.2g}")
    record = new_record(prepared, info, plan, engine, spec, recipe.stop_margin)
    record.write(options.out)
    grows = options.recipe.num_vectors == "auto"
    # Not before the record: a folder that holds anything else is refused.
    watch = Watch(Metrics(name), RunLog(options.out, options.log_level))
    driver = Driver(
        taken=_taken(prepared, recipe, plan, room.served_length, roster, reporter.say),
        queue=WorkQueue(make_retry(room.served_length, grows)),
        roster=roster,
        ledger=prepared.ledger,
        in_flight=InFlight(options.out),
        context=RowContext(options.recipe.hash, info.fingerprint, dtype, partial(decode, prepared.tokens)),
        reporter=reporter,
        watch=watch,
        token_budget=placement.token_budget,
        on_commit=lambda driver: touch(record, driver, prepared, "running"),
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
            touch(record, driver, prepared, "interrupted")
            watch.interrupted(error, driver.num_done)
            raise
        touch(record, driver, prepared, "finished")
        driver.in_flight.clear()
        watch.finished(driver.num_done, driver.seconds)
    return summarise(prepared.ledger, record)


def _room(prepared: Prepared, placement: Placement, up: list[Node]) -> Room:
    """Room for the texts that are still to come, or as the run that goes on was given."""
    options, served = prepared.options, prepared.record.model.was_served if prepared.record else None
    intake = Intake(prepared.corpus, prepared.tokens, options.recipe, skip=prepared.committed)
    need = need_of_corpus(intake.taken(), options.recipe)
    return options.room(placement, up, need, prepared.tokens.context, served)


def _taken(
    prepared: Prepared,
    recipe: Recipe,
    plan: VectorPlan | None,
    served_length: int,
    roster: Roster,
    say: Callable[[str], None],
) -> Iterator[Taken]:
    """Rows still to come, in the order the recipe's curriculum asks for."""
    taken = Intake(prepared.corpus, prepared.tokens, recipe, plan, prepared.committed, say, served_length).taken()
    order = recipe.curriculum.order
    if order == "corpus":
        return taken
    return easiest_first(
        taken, lambda targets: roster.ask(lambda solver: solver.difficulty.remote(order, targets)), OPEN_WINDOW
    )


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
