"""The verbs that know both runs and searches: status, submit.

Owns: their flags. Must not know: how anything is done. Heavy imports wait for their verb.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator import flags
from orchestrator.app import LIBRARIES, console
from orchestrator.cli import app
from orchestrator.cluster.submit import DASHBOARD, RUNTIME_ENV
from orchestrator.console.errors import UserError
from orchestrator.console.parsed import parse
from orchestrator.console.progress import shown
from orchestrator.console.terminal import make_console, say
from orchestrator.process.ends import told_in_one_line
from orchestrator.storage.location import parse_location
from tune_spaces.folder import looked_at


@app.command()
def status(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="folder or URI of a run or a search")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    serve: flags.Serve = False,
    port: flags.Port = None,
) -> None:
    """How far a run or a search is, from its files alone."""
    with told_in_one_line():
        with shown(make_console(stderr=True), LIBRARIES):
            from orchestrator.results.status import print_status, read_status

        place = parse_location(folder)
        with looked_at(place) as search:
            if search is not None:
                given = {"--serve": serve, "--port": port}
                flags.refuse_ignored(given, f"{folder} is a search's folder, and has no pages")
                from tune_spaces.status import print_search_status, search_status

                print_search_status(search_status(search, place), console, as_json=as_json)
                return
        if serve:
            from orchestrator.report import ReportOptions
            from orchestrator.report.served import serve as serve_pages

            flags.refuse_ignored({"--json": as_json}, "pages are served, and no JSON")
            serve_pages(ReportOptions(place), port, "/status", partial(say, console))
        else:
            flags.refuse_ignored({"--port": port}, "nothing is served without --serve")
            print_status(read_status(place), console, as_json=as_json)


@app.command(context_settings={"ignore_unknown_options": True})
def submit(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[run|tune] CORPUS", help="corpus, and options as `verbatim run` or `tune` takes them"),
    ] = None,
    address: Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="the cluster's dashboard")] = DASHBOARD,
    runtime_env: Annotated[Path, typer.Option(help="Ray runtime environment of the job, YAML")] = RUNTIME_ENV,
    print_: Annotated[bool, typer.Option("--print", help="print the command that would do it; send nothing")] = False,
) -> None:
    """Run on a Ray cluster from outside it: send `verbatim run CORPUS ...`, or `tune CORPUS ...`, as a job, follow it,
    end as it ends."""
    with told_in_one_line():
        from orchestrator.cluster import submit as sending

        given = tuple(arguments or ())
        verb, given = (given[0], given[1:]) if given[:1] in (("run",), ("tune",)) else ("run", given)
        asked = parse(app, verb, list(given))
        _require_fit_for_a_job(verb, asked)
        submission = sending.Submission(given, address, runtime_env, verb)
        try:
            sending.require_lasting(asked["out"])
        except UserError as error:
            if not print_:
                raise
            print(f"note: {error}", file=sys.stderr)
        if print_:
            print(submission.command)
            return
        raise typer.Exit(sending.submit(submission, lambda line: say(console, line)))


def _require_fit_for_a_job(verb: str, asked: dict[str, Any]) -> None:
    """Files that are sent along must be here, and say what can be.

    Raises:
        UserError, SettingsError: which one is not, or what of it cannot be.
    """
    from engine.recipe import load_recipe, recipe_path
    from orchestrator.cluster import submit as sending

    sending.require_texts(asked["corpus"], asked.get("from_"), asked.get("ids"))
    recipe = asked["recipe"]
    if recipe is not None and recipe_path(recipe) == recipe:  # one that comes with the package is there already
        sending.require_travels("--recipe", recipe)
    if recipe is None or not recipe.is_absolute():
        load_recipe(recipe, list(asked["set_"] or []))
    if verb == "tune":
        from tune_spaces import spaces

        for flag, load in (("preset", spaces.preset), ("space", spaces.space)):
            if (file := asked[flag]) is not None and file.endswith(".toml"):
                sending.require_travels(f"--{flag}", Path(file))
            if file is not None and not Path(file).is_absolute():
                load(file)
