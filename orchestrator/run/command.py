"""`verbatim run`: from options to a finished folder.

Owns: the order of a run's steps and their shutdown. Must not know: the loop (dispatcher), optimisation (engine).

    options -> checks that write nothing -> actors -> vector plan -> margin -> run.json -> dispatcher -> summary

Shutdown: on success and on an interrupt rows that ended are committed and `run.json` is written, then Ray goes down
and takes every actor with it. A crash leaves what the manifest holds; the same command goes on from there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import ray
from ray.exceptions import RayError

from engine.correction.start import require_start
from engine.target import Target, decode
from orchestrator.console.errors import FleetError, StorageError, Superseded
from orchestrator.console.progress import Reporter
from orchestrator.corpus.intake import Taken, easiest_first
from orchestrator.dispatch.dispatcher import OPEN_WINDOW, Dispatcher, Tempo
from orchestrator.dispatch.metrics import Metrics
from orchestrator.dispatch.watch import Watch
from orchestrator.fleet import workers
from orchestrator.fleet.roster import Roster
from orchestrator.process.failures import reason
from orchestrator.results.compaction import compact
from orchestrator.results.in_flight import InFlight
from orchestrator.results.run_log import RunLog
from orchestrator.results.run_record import RunRecord
from orchestrator.results.summary import Summary, summarise
from orchestrator.run.corpus_source import CorpusSource
from orchestrator.run.hiring import Hired, hire
from orchestrator.run.keeping import Keeping
from orchestrator.run.ledger_sink import LedgerSink
from orchestrator.run.measuring import Measured, measure
from orchestrator.run.preparation import Prepared, RunOptions, prepare
from orchestrator.run.record_keeping import new_record, touch
from orchestrator.run.rows import RowContext
from orchestrator.run.unkept import CHECKPOINTS, PARTS, Unkept
from orchestrator.storage import open_storage
from orchestrator.storage.location import first_line
from orchestrator.verifiers.contract import GREEDY_AND_SCORED
from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue

__all__ = ["Prepared", "RunOptions", "prepare", "run"]

TEMPO = Tempo()
"""Nobody waits for a run's next row."""


def run(prepared: Prepared, reporter: Reporter) -> Summary:
    """Invert every text that has no row yet; the folder's summary, texts of earlier calls included."""
    with open_storage(prepared.options.out).sole_writer(reporter.say):
        # Read again: until the folder was held another run may have written to it.
        return _run_alone(prepare(prepared.options), reporter)


def _run_alone(prepared: Prepared, reporter: Reporter) -> Summary:
    options = prepared.options
    reporter.expect(prepared.num_rows)
    if prepared.record is not None and prepared.is_finished:
        reporter.say(f"{options.out} is finished: {len(prepared.committed)} rows, nothing to do")
        _merge_parts(prepared, reporter)
        return summarise(prepared.ledger, prepared.record)
    reporter.stage("starting Ray")
    dashboard = workers.connect(options.address, dashboard=options.dashboard)
    if prepared.record is not None:
        reporter.say(_how_it_goes_on(prepared, prepared.record))
    if dashboard:
        reporter.say(f"Ray dashboard: {dashboard}")
    try:
        return _run_on_ray(prepared, reporter)
    finally:
        reporter.close()
        ray.shutdown()


def _how_it_goes_on(prepared: Prepared, record: RunRecord) -> str:
    state = f"{prepared.options.out} holds {len(prepared.committed)} rows of a run that is {record.state}"
    appended = f"{prepared.num_appended} were appended to the corpus, " * (prepared.num_appended > 0)
    selection = prepared.options.selection
    return f"{state}; {appended}{prepared.num_to_come} are to come ({selection}), the others stay as they are"


def _run_on_ray(prepared: Prepared, reporter: Reporter) -> Summary:
    hired = hire(prepared, reporter)
    require_start(prepared.options.recipe.start, hired.info.fingerprint)
    measured = measure(prepared, hired, reporter)
    record = new_record(prepared, hired.info, measured, hired.crew.spec)
    record.write(prepared.options.out)
    # Not before the record: a folder that holds anything else is refused.
    watch = Watch(Metrics(hired.name), RunLog(prepared.options.out, prepared.options.log_level))
    sink = LedgerSink(
        prepared.ledger,
        Keeping(InFlight(prepared.options.out), Unkept(watch.unkept, reporter.say, CHECKPOINTS)),
        RowContext(record.recipe_hash, hired.info.fingerprint, hired.crew.dtype, partial(decode, prepared.token_rule)),
        reporter,
        on_commit=lambda dispatcher: touch(record, dispatcher, sink.counts, prepared, "running"),
        num_done=len(prepared.committed),
        on_refusal=Unkept(watch.unwritten, reporter.say, PARTS),
    )
    with watch.log:
        _drive(_dispatcher(prepared, hired, measured, sink, watch), sink, prepared, record, hired.name)
    _merge_parts(prepared, reporter)
    return summarise(prepared.ledger, record)


def _dispatcher(prepared: Prepared, hired: Hired, measured: Measured, sink: LedgerSink, watch: Watch) -> Dispatcher:
    """The loop between the rows to come and the ledger."""
    options, served_length, say = prepared.options, hired.crew.served_length, sink.reporter.say
    taken = _taken(prepared, measured, served_length, hired.roster, say)
    dispatcher = Dispatcher(
        source=CorpusSource(taken, sink.keeping.in_flight, say, watch),
        sink=sink,
        queue=WorkQueue(make_retry(served_length, grows=options.recipe.num_vectors == "auto")),
        roster=hired.roster,
        watch=watch,
        say=say,
        table_positions=hired.crew.placement.table_positions,
        tempo=TEMPO,
        lease_s=options.lease_s,
        judged_as=GREEDY_AND_SCORED,
    )
    sink.keeping.on_written = dispatcher.checkpointing.written
    return dispatcher


def _drive(dispatcher: Dispatcher, sink: LedgerSink, prepared: Prepared, record: RunRecord, name: str) -> None:
    """Run the loop to its end; whatever ends it sooner, rows that ended are committed."""
    watch = dispatcher.watch
    watch.started(name, total=record.num_rows, done=sink.num_done, num_solvers=len(dispatcher.roster.solvers))
    try:
        dispatcher.run()
    except Superseded:
        raise  # the folder is another run's: nothing more may be written there
    except BaseException as error:
        try:
            sink.settle(dispatcher, is_patient=False)
        except Superseded:
            raise
        except (OSError, StorageError, FleetError, RayError) as refusal:
            sink.reporter.say(f"texts that ended last are not kept and will be solved again ({reason(refusal)})")
        touch(record, dispatcher, sink.counts, prepared, "interrupted")
        watch.interrupted(error, sink.num_done)
        raise
    touch(record, dispatcher, sink.counts, prepared, "finished")
    sink.keeping.clear()
    watch.finished(sink.num_done, dispatcher.seconds)


def _merge_parts(prepared: Prepared, reporter: Reporter) -> None:
    """Make few parts of many. Results are whole without it, so that whatever keeps it from being done is only told."""
    reporter.stage("merging the parts of the results")
    try:
        if merged := compact(prepared.options.out):
            reporter.say(f"{merged[0]} parts of the results are {merged[1]} now")
    except Exception as error:  # the stores' packages share no base class for their errors
        reporter.say(f"the parts of the results stay as they are ({first_line(error)})")


def _taken(
    prepared: Prepared, measured: Measured, served_length: int, roster: Roster, say: Callable[[str], None]
) -> Iterator[Taken]:
    """Rows still to come, in the order the recipe's curriculum asks for."""
    recipe, plan = measured.recipe, measured.plan
    intake = replace(prepared.intake, recipe=recipe, plan=plan, say=say, served_length=served_length)
    taken = intake.taken()
    order = recipe.curriculum.order
    if order == "corpus":
        return taken

    def difficulty(targets: list[Target]) -> list[float]:
        # The order is only a help: the loop that asks for it is what seats and starts a solver.
        return (
            roster.ask(lambda solver: solver.difficulty.remote(order, targets))
            if roster.ready
            else [0.0] * len(targets)
        )

    return easiest_first(taken, difficulty, OPEN_WINDOW)
