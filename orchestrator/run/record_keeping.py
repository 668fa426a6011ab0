"""A run's own record: made when its models are loaded, brought up to date as rows are committed.

Owns: which fact of a run goes into which field. Must not know: files, actors, the loop.
"""

from collections import Counter

from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.fleet.answers import SolverInfo
from orchestrator.fleet.verifier_actor import EngineSpec
from orchestrator.results import run_record
from orchestrator.results.ledger import SCHEMA_VERSION
from orchestrator.results.run_record import ModelRecord, RunRecord
from orchestrator.run.measuring import Measured
from orchestrator.run.preparation import Prepared
from orchestrator.storage.location import absolute


def new_record(prepared: Prepared, info: SolverInfo, measured: Measured, spec: EngineSpec) -> RunRecord:
    """The record of a run that begins, or goes on."""
    options, earlier, corpus = prepared.options, prepared.record, prepared.corpus
    is_known = earlier is not None and earlier.rows_digest and earlier.corpus_fingerprint == corpus.fingerprint
    return RunRecord(
        # Its oldest part's: readers look for columns under the names of that time.
        schema_version=min(earlier.schema_version, SCHEMA_VERSION) if earlier else SCHEMA_VERSION,
        state="running",
        corpus=absolute(options.corpus),
        from_status=options.from_status,
        corpus_fingerprint=corpus.fingerprint,
        corpus_rows=corpus.num_rows,
        rows_digest=earlier.rows_digest if earlier and is_known else corpus.digest(),
        text_column=corpus.text_column,
        id_column=corpus.id_column,
        num_rows=prepared.num_rows,
        selection=None if options.selection.is_everything else str(options.selection),
        model=ModelRecord(
            name=options.source.name,
            revision=options.source.revision,
            fingerprint=info.fingerprint,
            hidden_size=info.hidden_size,
            context=prepared.token_rule.context,
            served_length=spec.context,
            solver_dtype=info.dtype,
            device=info.device_name,
        ),
        recipe=options.recipe,
        recipe_hash=options.recipe.hash,
        seed=options.recipe.seed,
        vector_plan=list(measured.plan.points) if measured.plan else None,
        adaptation=measured.adaptation,
        engine=measured.engine,
        engine_dtype=spec.dtype,
        stop_margin=measured.recipe.stop_margin,
        versions=run_record.installed_versions(),
        python=run_record.python_version(),
        started=earlier.started if earlier else run_record.now(),
        updated=run_record.now(),
        counts=dict(prepared.counts),
        retries=earlier.retries if earlier else {},
        seconds=earlier.seconds if earlier else 0.0,
    )


def touch(record: RunRecord, dispatcher: Dispatcher, committed: Counter[str], prepared: Prepared, state: str) -> None:
    """Bring `run.json` up to date: state, counts and retries over all calls, seconds.

    Args:
        committed: rows by status that this call has committed.
    """
    earlier = prepared.record
    record.state = state
    record.counts = dict(prepared.counts + committed)
    record.retries = dict(dispatcher.watch.retries + Counter(earlier.retries if earlier else {}))
    record.updated = run_record.now()
    record.seconds = (earlier.seconds if earlier else 0.0) + dispatcher.seconds
    record.write(prepared.options.out)
