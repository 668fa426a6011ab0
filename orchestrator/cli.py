"""The command line of what makes a run: one verb, one function. The verbs for a folder are in `folder_verbs`,
those that know searches too in the search's own package.

Owns: flags, exit codes, what is printed. Must not know: how anything is done. Heavy imports wait for their verb.
"""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import flags, folder_verbs
from orchestrator.app import LIBRARIES, app, console
from orchestrator.cluster.ray_start import require_joinable
from orchestrator.console.errors import UserError
from orchestrator.console.progress import Reporter, make_reporter, shown
from orchestrator.console.terminal import make_console
from orchestrator.process.ends import told_in_one_line

if TYPE_CHECKING:
    from orchestrator.run.preparation import RunOptions

__all__ = ["app", "folder_verbs"]


@app.command()
def run(
    corpus: flags.Corpus = None,
    from_: flags.From = None,
    status: flags.Status = None,
    limit: flags.Limit = None,
    ids: flags.Ids = None,
    model: flags.ModelOfRun = None,
    revision: flags.Revision = None,
    recipe: flags.Recipe = None,
    set_: flags.Set = None,
    out: flags.Out = None,
    text_column: flags.TextColumn = None,
    id_column: flags.IdColumn = None,
    row_ids: flags.RowIds = False,
    format: flags.Format = None,
    csv_quotes: flags.CsvQuotes = "doubled",
    address: flags.Address = None,
    solvers: flags.Solvers = None,
    verifiers: flags.Verifiers = None,
    solver_gpus: flags.SolverGpus = None,
    table_positions: flags.TablePositions = None,
    dtype: flags.Dtype = None,
    engine: flags.Engine = "vllm",
    verify_dtype: flags.VerifyDtype = None,
    dashboard: flags.Dashboard = True,
    log_level: flags.LogLevel = "info",
    lease: flags.Lease = 600,
    ladder: flags.Ladder = False,
    dry_run: flags.DryRun = False,
    as_json: flags.Json = False,
) -> None:
    """Find and verify a soft prompt for every text; goes on by itself if the folder holds this run."""
    shown_on = make_console(stderr=True) if dry_run or as_json else console
    with told_in_one_line(), closing(make_reporter(shown_on)) as reporter:
        _require_fitting(address, ladder=ladder, dry_run=dry_run, as_json=as_json)
        reporter.stage(LIBRARIES)
        from orchestrator.corpus import Reading
        from orchestrator.corpus.selection import parse_selection
        from orchestrator.run.origin import find_origin
        from orchestrator.run.preparation import RunOptions

        reporter.stage("looking at the texts and the model")
        reading = Reading(text_column, id_column, row_ids, format, csv_quotes)
        origin = find_origin(corpus, from_, status, reading)
        source = origin.source(model, revision)
        options = RunOptions(
            corpus=origin.location,
            out=origin.out(out, source),
            recipe=origin.recipe(recipe, set_),
            source=source, reading=reading, statuses=origin.statuses, selection=parse_selection(limit, ids),
            address=address, solvers=solvers, verifiers=verifiers, solver_gpus=solver_gpus, dtype=dtype,
            table_positions=table_positions, engine=engine, engine_dtype=verify_dtype, dashboard=dashboard,
            lease_s=lease, log_level=log_level,
        )  # fmt: skip
        if dry_run:
            _foretell(options, reporter, as_json=as_json)
        else:
            is_done = _run_to_its_end(options, reporter, ladder=ladder, as_json=as_json)
            raise typer.Exit(0 if is_done else 3)


def _require_fitting(address: str | None, *, ladder: bool, dry_run: bool, as_json: bool) -> None:
    """Refuse what would be ignored, and a cluster that cannot be joined, before anything is loaded."""
    if ladder and (dry_run or as_json):
        raise UserError("--ladder: a dry run proves nothing, and its table is no JSON; leave one of both away")
    if not dry_run:
        require_joinable(address)


def _run_to_its_end(options: "RunOptions", reporter: Reporter, *, ladder: bool, as_json: bool) -> bool:
    """Whether every row is verified."""
    from orchestrator.proof import reproof
    from orchestrator.run import command as runner
    from orchestrator.run.told import tell

    proof = reproof.proof_file(options.out) if ladder else None
    prepared = runner.prepare(options)
    summary = runner.run(prepared, reporter)
    reporter.close()
    tell(summary, prepared, console, as_json=as_json, seconds=reporter.seconds)
    if proof and summary.num_exact:
        climbed = reproof.ReproofOptions(options.out, options.engine, address=options.address)
        reproof.climb_claims(climbed, proof, console)
    return summary.is_all_verified


def _foretell(options: "RunOptions", reporter: Reporter, *, as_json: bool) -> None:
    from orchestrator.run.forecast import foretell
    from orchestrator.run.forecast_view import print_forecast
    from orchestrator.run.preparation import prepare

    prepared = prepare(options)
    reporter.expect(prepared.num_rows)
    forecast = foretell(prepared, reporter)
    reporter.close()
    print_forecast(forecast, console, as_json=as_json)


@app.command()
def doctor(
    model: flags.Model = "pocket",
    revision: flags.Revision = None,
    engine: flags.Engine = "vllm",
    load: Annotated[bool, typer.Option("--load", help="load the model, and probe that it reads soundly")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="findings as JSON")] = False,
) -> None:
    """Look at this machine and at a model, without loading its weights. Ends 0 if a run would work."""
    with told_in_one_line():
        with shown(make_console(stderr=True), "looking at the machine and the model"):
            from engine.model_source import ModelSource
            from orchestrator.doctor.finding import print_findings
            from orchestrator.doctor.machine import examine

            findings = examine(ModelSource(model, revision), engine, loads=load)
        print_findings(findings, console, as_json=as_json)
        raise typer.Exit(0 if all(finding.is_fine for finding in findings) else 2)


if __name__ == "__main__":
    app()
