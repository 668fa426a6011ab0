"""The whole command line: `verbatim` as the orchestrator has it, `learn`, `tune`, `report`, and
those of `both_verbs`.

Owns: the flags of these three. Must not know: how anything is done. Heavy imports wait for their verb.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import flags
from orchestrator.app import LIBRARIES, console
from orchestrator.cli import app
from orchestrator.cluster.ray_start import require_joinable
from orchestrator.console.completion import one_of
from orchestrator.console.errors import UserError
from orchestrator.console.progress import shown
from orchestrator.console.terminal import make_console, say, say_json
from orchestrator.process.ends import told_in_one_line
from orchestrator.storage.location import Location, join, parse_location
from tune_spaces import both_verbs
from tune_spaces.folder import looked_at, working_copy

if TYPE_CHECKING:
    from orchestrator.report import ReportOptions
    from tune_spaces.tuning import TuneOptions

__all__ = ["app", "both_verbs"]

PRESETS = tuple(sorted(path.stem for path in (Path(__file__).parent / "presets").glob("*.toml")))

Preset = Annotated[
    str,
    typer.Option(help="settings of a whole search: a name, or a TOML file", autocompletion=one_of(*PRESETS)),
]

CALLBACKS = ("tensorboard", "wandb", "mlflow")

Objective = Annotated[
    str | None, typer.Option(help="cost; pareto: cost and margin; capacity: the longest exact prefix")
]

Callbacks = Annotated[
    list[str] | None,
    typer.Option(
        "--callback",
        help="show trials there too: tensorboard, wandb or mlflow",
        autocompletion=one_of(*CALLBACKS),
    ),
]

ExportTrial = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="write the recipe of trial N of the folder; search no more")
]

Concurrent = Annotated[int | None, typer.Option(min=1, help="trials under way at once; default what the solvers hold")]


@app.command()
def tune(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="texts: file, folder or URI; - is standard input")],
    preset: Preset = "quick",
    space: Annotated[str | None, typer.Option(help="where recipes are drawn from: a name, or a TOML file")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="recipes to try, earlier calls included")] = None,
    texts: Annotated[int | None, typer.Option(min=2, help="texts that trials are compared on")] = None,
    hold_out: Annotated[int | None, typer.Option(min=0, help="texts that the winner is checked on")] = None,
    budget: Annotated[float | None, typer.Option(min=1, help="passes over a text that a recipe may take")] = None,
    objective: Objective = None,
    sampler: Annotated[str | None, typer.Option(help="tpe or random")] = None,
    stopping: Annotated[str | None, typer.Option(help="wilcoxon, asha, median or none")] = None,
    concurrent: Concurrent = None,
    seed: Annotated[int, typer.Option(min=0, help="of the sample and the draws")] = 0,
    model: flags.Model = "pocket",
    revision: flags.Revision = None,
    recipe: flags.RecipeToBeat = None,
    set_: flags.Set = None,
    out: Annotated[str | None, typer.Option(help="the search's folder or URI; default runs/tune-CORPUS-MODEL")] = None,
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
    lease: flags.Lease = 600,
    callback: Callbacks = None,
    export_trial: ExportTrial = None,
    as_json: flags.Json = False,
) -> None:
    """Search for a better recipe; writes best.toml, trials and a report, and goes on where it was stopped."""
    with told_in_one_line():
        require_joinable(address)
        with shown(make_console(stderr=True), LIBRARIES):
            from engine.model_source import ModelSource
            from engine.recipe import load_recipe
            from orchestrator.corpus import Reading, short_name
            from tune_spaces import spaces, tuning

        source = parse_location(corpus, "CORPUS")
        default = f"runs/tune-{short_name(source)}-{Path(model).name}"
        place = parse_location(default if out is None else out, "--out")
        if export_trial is not None:
            return _say_exported(place, export_trial, as_json=as_json)
        settings = spaces.preset(preset, space=space, trials=trials, texts=texts, hold_out=hold_out, budget=budget,
                                 objective=objective, sampler=sampler, stopping=stopping)  # fmt: skip
        options = tuning.TuneOptions(
            corpus=source, out=Path(), settings=settings, space=spaces.space(settings.space), seed=seed,
            base=load_recipe(recipe, set_), concurrent=concurrent, source=ModelSource(model, revision),
            reading=Reading(text_column, id_column, row_ids, format, csv_quotes), address=address, solvers=solvers,
            verifiers=verifiers, solver_gpus=solver_gpus, table_positions=table_positions, dtype=dtype, engine=engine,
            engine_dtype=verify_dtype, dashboard=dashboard, lease_s=lease, callbacks=tuple(callback or ()))  # fmt: skip
        _search(options, place, as_json=as_json)


def _search(options: "TuneOptions", place: Location, *, as_json: bool) -> None:
    """Search in a folder, or in a copy of what lies in a store."""
    from tune_spaces import tuning

    told = make_console(stderr=True) if as_json else console
    with working_copy(place, partial(say, told)) as copy:
        kept_at = place if isinstance(place, str) else None
        options = replace(options, out=copy.folder, kept_at=kept_at, on_change=partial(copy.keep, soon=True))
        tuned = tuning.tune_recipe(options, told)
        tuning.print_tuned(tuned, options, console, as_json=as_json)


def _say_exported(place: Location, number: int, *, as_json: bool) -> None:
    from tune_spaces.results import export_trial

    with working_copy(place, partial(say, console)) as copy:
        path = join(place, export_trial(copy.folder, number).name)
    if as_json:
        say_json({"recipe": str(path)})
    else:
        say(console, f"recipe of trial {number}: {path}")


@app.command()
def learn(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="texts to learn from: file, folder or URI")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the networks; goes on if it holds this training")],
    minutes: Annotated[float, typer.Option(min=0.01, help="of training, earlier calls included")] = 10.0,
    steps: Annotated[int | None, typer.Option(min=1, help="of training, likewise; bounds it exactly")] = None,
    held_out: Annotated[
        str | None, typer.Option(metavar="CORPUS", help="texts to measure on; default a part of CORPUS")
    ] = None,
    longest: Annotated[int, typer.Option(min=8, help="most tokens of the pieces that texts are cut into")] = 50,
    train: Annotated[
        list[str] | None, typer.Option("--train", metavar="K=V", help="a setting of the training: rounds=2, lr=1e-3")
    ] = None,
    begin_with: Annotated[
        Path | None, typer.Option(metavar="DIR", help="networks to take over: a folder of an earlier training")
    ] = None,
    corrections: Annotated[
        int | None, typer.Option(min=0, max=64, help="rounds that the recipe asks for; default as many as are trained")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="recipe to save steps of: a name, or a TOML file")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="override a value of it")] = None,
    model: flags.Model = "pocket",
    revision: flags.Revision = None,
    dtype: Annotated[str, typer.Option(help="the model's numerics: float32, bfloat16, float16")] = "float32",
    text_column: flags.TextColumn = None,
    format: flags.Format = None,
    csv_quotes: flags.CsvQuotes = "doubled",
) -> None:
    """Train networks that propose a model's soft prompts, and tell whether they save work; no run uses them unasked."""
    with told_in_one_line():
        with shown(make_console(stderr=True), LIBRARIES):
            from engine.model_source import ModelSource
            from engine.recipe import load_recipe
            from orchestrator.corpus import Reading
            from orchestrator.learn.command import LearnOptions, learn, train_settings

        learn(
            LearnOptions(
                corpus=parse_location(corpus, "CORPUS"),
                held_out=None if held_out is None else parse_location(held_out, "--held-out"),
                reading=Reading(text_column, row_ids=True, format=format, csv_quotes=csv_quotes),
                source=ModelSource(model, revision),
                out=out, minutes=minutes, max_steps=steps, longest=longest,
                settings=train_settings(train or []),
                recipe=load_recipe(recipe, set_),
                dtype=dtype,
                begin_with=begin_with, corrections=corrections,
            ),
            lambda line: say(console, line),
        )  # fmt: skip


@app.command()
def report(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="folder or URI of a run or a search")],
    out: Annotated[Path | None, typer.Option(metavar="SITE", help="folder of the page; default DIR/report")] = None,
    against: Annotated[str | None, typer.Option(metavar="DIR", help="another run, to be shown beside it")] = None,
    margins: Annotated[bool, typer.Option("--margins", help="load the model and measure every token's margin")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="what was written as JSON")] = False,
    serve: flags.Serve = False,
    port: flags.Port = None,
) -> None:
    """Write a run, or a search, as a website in a folder. The page asks nothing of any network."""
    with told_in_one_line():
        with shown(make_console(stderr=True), LIBRARIES):
            from orchestrator.report import ReportOptions, write_report
        place = parse_location(folder)
        if not serve:
            flags.refuse_ignored({"--port": port}, "nothing is served without --serve")
        with looked_at(place) as search:
            if search is not None:
                given = {"--against": against, "--margins": margins, "--serve": serve}
                flags.refuse_ignored(given, f"{folder} is a search's folder")
                if out is None and search != place:
                    raise UserError(f"{folder}: lies in a store; give --out a folder for the page")
                _report_search(search, out, as_json=as_json)
                return
        other = None if against is None else parse_location(against, "--against")
        options = ReportOptions(place, out, other, margins)
        if serve:
            _serve(options, port, as_json=as_json)
            return
        written = write_report(options)
        if as_json:
            say_json(asdict(written) | {"page": str(written.page)})
        else:
            say(console, written.line())


def _report_search(folder: Path, out: Path | None, *, as_json: bool) -> None:
    from tune_spaces.report import write_search_report

    page = write_search_report(folder, out)
    if as_json:
        say_json({"page": str(page)})
    else:
        say(console, f"report: {page}")


def _serve(options: "ReportOptions", port: int | None, *, as_json: bool) -> None:
    from orchestrator.report.served import serve as serve_pages

    given = {"--out": options.out, "--margins": options.margins, "--json": as_json}
    flags.refuse_ignored(given, "a report that is served is written again and again, and not kept")
    serve_pages(options, port, "/", partial(say, console))


if __name__ == "__main__":
    app()
