"""The command line of what a run has left: verify, decode, export.

Owns: flags, exit codes, what is printed. Must not know: how anything is done. Heavy imports wait for their verb.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import flags
from orchestrator.app import LIBRARIES, app, console
from orchestrator.cluster.ray_start import require_joinable
from orchestrator.console.completion import EXPORTS, one_of
from orchestrator.console.errors import UserError
from orchestrator.console.progress import shown
from orchestrator.console.terminal import make_console, say, say_json
from orchestrator.process.ends import told_in_one_line
from orchestrator.storage.location import parse_location

Folder = Annotated[str, typer.Argument(metavar="DIR", help="folder of a run, or its URI in an object store")]


@app.command()
def verify(
    folder: Folder,
    engine: Annotated[str, typer.Option(help="vllm or hf")] = "vllm",
    dtype: Annotated[str | None, typer.Option(help="engine's numerics; default as in the run")] = None,
    beams: Annotated[int, typer.Option(min=1, help="width of a beam search; 1 is greedy")] = 1,
    batch_size: Annotated[int | None, typer.Option(min=1, help="most prompts decoded together")] = None,
    ladder: Annotated[bool, typer.Option(help="further checks: batch sizes, dtypes, beams, rounding, noise")] = False,
    out: Annotated[Path | None, typer.Option(help="file for the ladder's table, .parquet")] = None,
    address: flags.Address = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="ask this running vLLM server; no engine is started")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="verdicts as JSON")] = False,
) -> None:
    """Prove again every stored prompt that was exact; changes nothing. Ends 0 if all still are, 3 if not."""
    with told_in_one_line():
        require_joinable(address)
        with shown(make_console(stderr=True), LIBRARIES):
            from orchestrator.proof import reproof, served
            from orchestrator.verifiers.contract import Mode

        if server is not None:
            flagged = {"--dtype": dtype, "--beams": beams > 1, "--batch-size": batch_size, "--ladder": ladder}
            flags.refuse_ignored(flagged | {"--address": address}, "the server decodes greedily as it was started")
            is_all_exact = served.ask_server(parse_location(folder), server, console, as_json=as_json)
            raise typer.Exit(0 if is_all_exact else 3)
        options = reproof.ReproofOptions(parse_location(folder), engine, dtype, Mode(beams, batch_size), address)
        if ladder:
            flags.refuse_ignored({"--beams": beams > 1, "--batch-size": batch_size}, "the ladder has rungs of its own")
            reproof.require_outside(out, options.folder)
            is_all_exact = reproof.climb_claims(options, out, console, as_json=as_json)
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
        with shown(make_console(stderr=True), "loading libraries and the model"):
            from orchestrator.decode.sight import look
            from orchestrator.decode.sight_view import print_sight
            from orchestrator.decode.strategies import choose

            strategies = choose(strategy or ["greedy"], set_ or [])
            sight = look(parse_location(folder), id, strategies=strategies, dtype=dtype)
        print_sight(sight, console, as_json=as_json)


@app.command()
def export(
    folder: Folder,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="folder to make; must not hold anything")],
    id: Annotated[list[str] | None, typer.Option("--id", help="id of a text; may be given again; default all")] = None,
    dtype: Annotated[str, typer.Option(help="of the exported prompts: float32, bfloat16, float16")] = "float32",
    all_: Annotated[bool, typer.Option("--all", help="also prompts that are not exact")] = False,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="safetensors, vllm, peft, projector; may be given again; default the first two",
            autocompletion=one_of(*EXPORTS),
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="what was exported as JSON")] = False,
) -> None:
    """Take stored prompts elsewhere: tensors, PEFT adapters, requests to a vLLM server. Changes nothing in DIR."""
    with told_in_one_line():
        with shown(make_console(stderr=True), LIBRARIES):
            from orchestrator.export.folder import DEFAULT
            from orchestrator.export.folder import export as export_prompts

        place = parse_location(out, "--out")
        if not isinstance(place, Path):
            raise UserError(f"--out {out}: an export is a folder on a disk; make it there and copy it")
        exported = export_prompts(
            parse_location(folder), place, ids=id, dtype=dtype, with_inexact=all_, formats=format_ or DEFAULT
        )
        if as_json:
            say_json(asdict(exported) | {"folder": str(place)})
        else:
            say(console, exported.line())
