"""The command line: one verb, one function.

Owns: flags, exit codes, what is printed. Must not know: how anything is done. Heavy imports wait for their verb.

Exit codes: 0 all verified, 1 actors could not be kept alive or an object store failed, 2 bad input or
configuration, 3 some texts not verified, 130 interrupted, 143 by SIGTERM.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from orchestrator import flags
from orchestrator.cluster.ray_start import require_joinable
from orchestrator.cluster.submit import DASHBOARD, RUNTIME_ENV
from orchestrator.console.errors import UserError
from orchestrator.console.terminal import make_console, say
from orchestrator.process.ends import told_in_one_line
from orchestrator.storage.location import parse_location

if TYPE_CHECKING:
    from orchestrator.run.preparation import RunOptions

app = typer.Typer(
    name="verbatim",
    help="Make a frozen language model say exact texts: one soft prompt a text, proved by a second engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = make_console()

SMALL_TABLE = 100
"""Rows up to which a finished run prints its table."""

Folder = Annotated[str, typer.Argument(metavar="DIR", help="folder of a run, or its URI in an object store")]


@app.command()
def run(
    corpus: flags.Corpus = None,
    from_: flags.From = None,
    status: flags.Status = None,
    limit: flags.Limit = None,
    ids: flags.Ids = None,
    model: flags.ModelOfRun = None,
    revision: flags.Revision = None,
    recipe: Annotated[Path | None, typer.Option(help="recipe: a name, or a TOML file; default that of --from")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="override a recipe value")] = None,
    out: Annotated[str | None, typer.Option(help="results folder or URI; default runs/CORPUS-MODEL")] = None,
    text_column: flags.TextColumn = None,
    id_column: flags.IdColumn = None,
    row_ids: flags.RowIds = False,
    format: flags.Format = None,
    csv_quotes: flags.CsvQuotes = "doubled",
    address: flags.Address = None,
    solvers: flags.Solvers = None,
    solver_gpus: flags.SolverGpus = None,
    token_budget: flags.TokenBudget = None,
    dtype: flags.Dtype = None,
    engine: flags.Engine = "vllm",
    verify_dtype: flags.VerifyDtype = None,
    dashboard: flags.Dashboard = True,
    log_level: Annotated[str, typer.Option(help="least that goes to DIR/log.jsonl: debug, info, warning")] = "info",
    lease: flags.Lease = 600,
    ladder: Annotated[bool, typer.Option(help="climb the ladder of proof at the end, into DIR/proof.parquet")] = False,
    dry_run: flags.DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="the dry run's findings as JSON")] = False,
) -> None:
    """Find and verify a soft prompt for every text; goes on by itself if the folder holds this run."""
    with told_in_one_line():
        _require_fitting(dry_run=dry_run, as_json=as_json, ladder=ladder)
        if not dry_run:
            require_joinable(address)
        from orchestrator.corpus import Reading
        from orchestrator.corpus.selection import parse_selection
        from orchestrator.run.origin import find_origin
        from orchestrator.run.preparation import RunOptions

        reading = Reading(text_column, id_column, row_ids, format, csv_quotes)
        origin = find_origin(corpus, from_, status, reading)
        source = origin.source(model, revision)
        options = RunOptions(
            corpus=origin.location,
            out=origin.out(out, source),
            recipe=origin.recipe(recipe, set_),
            source=source,
            reading=reading,
            statuses=origin.statuses,
            selection=parse_selection(limit, ids),
            address=address, solvers=solvers, solver_gpus=solver_gpus, token_budget=token_budget, dtype=dtype,
            engine=engine, engine_dtype=verify_dtype, dashboard=dashboard, lease_s=lease, log_level=log_level,
        )  # fmt: skip
        if dry_run:
            _foretell(options, as_json=as_json)
        else:
            raise typer.Exit(0 if _run_to_its_end(options, ladder=ladder) else 3)


def _require_fitting(*, dry_run: bool, as_json: bool, ladder: bool) -> None:
    """Refuse flags that would be ignored."""
    if as_json and not dry_run:
        raise UserError("--json: only a dry run has something to say as JSON; give --dry-run, or leave it away")
    if ladder and dry_run:
        raise UserError("--ladder: a dry run proves nothing; leave one of both away")


def _run_to_its_end(options: "RunOptions", *, ladder: bool) -> bool:
    """Whether every row is verified."""
    from orchestrator.proof import reproof
    from orchestrator.results.summary import print_summary, print_table
    from orchestrator.run import command as runner

    proof = reproof.proof_file(options.out) if ladder else None
    summary = runner.run(runner.prepare(options), console)
    if len(summary.rows) <= SMALL_TABLE:
        print_table(summary.rows, console)
    print_summary(summary, console)
    if proof and summary.num_exact:
        climbed = reproof.ReproofOptions(options.out, options.engine, address=options.address)
        reproof.climb_claims(climbed, proof, console)
    say(console, f"results: {options.out}")
    return summary.is_all_verified


def _foretell(options: "RunOptions", *, as_json: bool) -> None:
    from orchestrator.console.progress import make_reporter
    from orchestrator.run.forecast import foretell
    from orchestrator.run.forecast_view import print_forecast
    from orchestrator.run.preparation import prepare

    prepared = prepare(options)
    reporter = make_reporter(make_console(stderr=True), prepared.num_rows)
    try:
        forecast = foretell(prepared, reporter)
    finally:
        reporter.close()
    print_forecast(forecast, console, as_json=as_json)


@app.command()
def verify(
    folder: Folder,
    engine: Annotated[str, typer.Option(help="vllm or hf")] = "vllm",
    dtype: Annotated[str | None, typer.Option(help="engine's numerics; default as in the run")] = None,
    beams: Annotated[int, typer.Option(min=1, help="width of a beam search; 1 is greedy")] = 1,
    batch_size: Annotated[int | None, typer.Option(min=1, help="most prompts decoded together")] = None,
    ladder: Annotated[bool, typer.Option(help="every rung: batch sizes, dtypes, beams, rounding, noise")] = False,
    out: Annotated[Path | None, typer.Option(help="file for the ladder's table, .parquet")] = None,
    address: flags.Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="verdicts as JSON")] = False,
) -> None:
    """Prove again every stored prompt that was exact; changes nothing. Ends 0 if all still are, 3 if not."""
    with told_in_one_line():
        require_joinable(address)
        from orchestrator.proof import reproof
        from orchestrator.verifiers.contract import Mode

        options = reproof.ReproofOptions(parse_location(folder), engine, dtype, Mode(beams, batch_size), address)
        ignored = {"--json": as_json, "--beams": beams > 1, "--batch-size": batch_size is not None}
        if ladder and (given := [flag for flag, is_given in ignored.items() if is_given]):
            raise UserError(
                f"{given[0]}: the ladder has rungs of its own and prints a table; leave it away or --ladder"
            )
        if ladder:
            reproof.require_outside(out, options.folder)
            is_all_exact = reproof.climb_claims(options, out, console)
        elif out is not None:
            raise UserError(f"--out {out}: only the ladder writes a file; give --ladder")
        else:
            is_all_exact = reproof.reprove_claims(options, console, as_json=as_json)
        raise typer.Exit(0 if is_all_exact else 3)


@app.command()
def decode(
    folder: Folder,
    id: Annotated[str, typer.Option("--id", help="id of the text")],
    strategy: Annotated[
        list[str] | None, typer.Option(help="greedy, beam, ... or all; may be given again; default greedy")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="S.K=V", help="a strategy's setting: beam.width=8")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="model's numerics; default as in the run")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Show what a stored prompt says under each strategy, beside its target, and how sure each token is."""
    with told_in_one_line():
        from orchestrator.decode.sight import look
        from orchestrator.decode.sight_view import print_sight
        from orchestrator.decode.strategies import choose

        strategies = choose(strategy or ["greedy"], set_ or [])
        print_sight(look(parse_location(folder), id, strategies=strategies, dtype=dtype), console, as_json=as_json)


@app.command()
def export(
    folder: Folder,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="folder to make; must not hold anything")],
    id: Annotated[list[str] | None, typer.Option("--id", help="id of a text; may be given again; default all")] = None,
    dtype: Annotated[str, typer.Option(help="of the exported prompts: float32, bfloat16, float16")] = "float32",
    all_: Annotated[bool, typer.Option("--all", help="also prompts that are not exact")] = False,
) -> None:
    """Take stored prompts elsewhere: safetensors, and requests to a vLLM server. Changes nothing in DIR."""
    with told_in_one_line():
        from orchestrator.export.folder import export as export_prompts

        place = parse_location(out, "--out")
        if not isinstance(place, Path):
            raise UserError(f"--out {out}: an export is a folder on a disk; make it there and copy it")
        exported = export_prompts(parse_location(folder), place, ids=id, dtype=dtype, with_inexact=all_)
        say(console, exported.line())


@app.command()
def status(folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False) -> None:
    """How far a run is, from its files alone."""
    with told_in_one_line():
        from orchestrator.results.status import print_status, read_status

        print_status(read_status(parse_location(folder)), console, as_json=as_json)


@app.command(context_settings={"ignore_unknown_options": True})
def submit(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="CORPUS", help="corpus, and options as `verbatim run` takes them")
    ] = None,
    address: Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="the cluster's dashboard")] = DASHBOARD,
    runtime_env: Annotated[Path, typer.Option(help="Ray runtime environment of the job, YAML")] = RUNTIME_ENV,
    print_: Annotated[bool, typer.Option("--print", help="print the command that would do it; send nothing")] = False,
) -> None:
    """Run on a Ray cluster from outside it: send `verbatim run CORPUS ...` as a job, follow it, end as it ends."""
    with told_in_one_line():
        from engine.recipe import load_recipe, recipe_path
        from orchestrator.cluster import submit as sending

        asked = _parse_run(arguments or [])
        recipe, out = asked["recipe"], asked["out"]
        sending.require_texts(asked["corpus"], asked["from_"], asked["ids"])
        if recipe is not None and recipe_path(recipe) == recipe:  # one that comes with the package is there already
            sending.require_travels("--recipe", recipe)
        if recipe is None or not recipe.is_absolute():
            load_recipe(recipe, list(asked["set_"] or []))
        submission = sending.Submission(tuple(arguments or []), address, runtime_env)
        if not sending.has_lasting_results(None if out is None else parse_location(out, "--out")):
            remedy = "give --out an absolute folder that the cluster keeps; the job's own folder is thrown away"
            if not print_:
                raise UserError(f"--out {out}: {remedy}" if out else remedy)
            print(f"note: {remedy}", file=sys.stderr)
        if print_:
            print(submission.command)
            return
        raise typer.Exit(sending.submit(submission, lambda line: say(console, line)))


def _parse_run(arguments: list[str]) -> dict[str, Any]:
    """The values that `verbatim run ARGUMENTS` would get.

    Raises:
        UserError: it would refuse them.
    """
    usage_error = cast(type[Exception], typer.BadParameter.__mro__[1])  # the parent of all that a parser refuses
    command = cast(Any, typer.main.get_command(app)).commands["run"]
    try:
        with command.make_context("run", list(arguments)) as context:
            return dict(context.params)
    except usage_error as error:
        raise UserError(cast(Any, error).format_message()) from None


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
        from engine.model_source import ModelSource
        from orchestrator.doctor.finding import print_findings
        from orchestrator.doctor.machine import examine

        findings = examine(ModelSource(model, revision), engine, loads=load)
        print_findings(findings, console, as_json=as_json)
        raise typer.Exit(0 if all(finding.is_fine for finding in findings) else 2)


if __name__ == "__main__":
    app()
