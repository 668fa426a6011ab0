"""Flags that several verbs have, told once.

Owns: their types and help, the refusal of what would be ignored. Must not know: verbs, defaults.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.console.completion import DTYPES, ENGINES, FORMATS, LOG_LEVELS, MODELS, STATUSES, one_of, recipes
from orchestrator.console.errors import UserError

A_MODEL = "a causal LM: folder, hub name, pocket (embedded) or smollm2 (a package)"
Model = Annotated[str, typer.Option(help=A_MODEL, autocompletion=one_of(*MODELS))]
ModelOfRun = Annotated[
    str | None,
    typer.Option("--model", help=f"{A_MODEL}; default pocket, or as --from had", autocompletion=one_of(*MODELS)),
]
Revision = Annotated[str | None, typer.Option(help="hub commit, tag or branch")]
TextColumn = Annotated[str | None, typer.Option(help="column that holds the texts")]
IdColumn = Annotated[str | None, typer.Option(help="column that holds the ids; default id where there is one")]
RowIds = Annotated[bool, typer.Option("--row-ids", help="number the rows, whatever columns there are")]
Format = Annotated[
    str | None,
    typer.Option(help="parquet, arrow, json, csv, tsv or txt; default by the ending", autocompletion=one_of(*FORMATS)),
]
CsvQuotes = Annotated[str, typer.Option(help='a quote in a CSV cell: doubled "", backslash \\", none (cells unquoted)')]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join; default: Ray in this process")]
Solvers = Annotated[int | None, typer.Option(min=1, help="solver actors")]
Verifiers = Annotated[int | None, typer.Option(min=1, help="verifier actors; default 1, more where candidates wait")]
SolverGpus = Annotated[float | None, typer.Option(min=0, help="GPUs of each solver; 0 is CPU")]
TablePositions = Annotated[int | None, typer.Option(min=1, help="positions in a solver's table")]
Dtype = Annotated[
    str | None, typer.Option(help="solver's numerics: float32, bfloat16, float16", autocompletion=one_of(*DTYPES))
]
Engine = Annotated[str, typer.Option(help="who verifies: vllm or hf", autocompletion=one_of(*ENGINES))]
VerifyDtype = Annotated[
    str | None, typer.Option(help="verifier's numerics; default the solver's", autocompletion=one_of(*DTYPES))
]
Dashboard = Annotated[bool, typer.Option(help="serve the Ray dashboard while the command lasts")]
Lease = Annotated[float, typer.Option(min=10, help="seconds an actor may take over one call")]
Corpus = Annotated[str | None, typer.Argument(metavar="CORPUS", help="texts: file, folder or URI; - is standard input")]
From = Annotated[
    str | None, typer.Option("--from", metavar="DIR", help="in CORPUS's place: texts and ids of an earlier run's rows")
]
Status = Annotated[
    str | None,
    typer.Option(
        metavar="S,S", help="which rows --from takes; default unsolved,rejected", autocompletion=one_of(*STATUSES)
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="only the first N rows of the corpus")]
Ids = Annotated[str | None, typer.Option(metavar="A,B", help="only rows of these ids; @FILE holds one a line")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="tell what would be done: targets, invalid rows, memory, work; do nothing")
]
Recipe = Annotated[
    Path | None,
    typer.Option(help="recipe: a name, or a TOML file; default that of --from", autocompletion=recipes),
]
RecipeToBeat = Annotated[
    Path | None, typer.Option("--recipe", help="recipe to beat: a name, or a TOML file", autocompletion=recipes)
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="override a recipe value")]
Out = Annotated[str | None, typer.Option(help="results folder or URI; default runs/CORPUS-MODEL")]
LogLevel = Annotated[
    str,
    typer.Option(help="least that goes to DIR/log.jsonl: debug, info, warning", autocompletion=one_of(*LOG_LEVELS)),
]
Ladder = Annotated[bool, typer.Option(help="climb the ladder of proof at the end, into DIR/proof.parquet")]
Json = Annotated[bool, typer.Option("--json", help="the outcome as JSON; progress goes to standard error")]
Serve = Annotated[bool, typer.Option("--serve", help="show it in a browser while the run goes on; loopback only")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="of --serve, default 8766; 0 is any that is free")]


def refuse_ignored(flags: Mapping[str, object], why: str) -> None:
    """Refuse the first flag that was given and would change nothing.

    Args:
        flags: by name, something true or not None where it was given.
        why: it would not.
    Raises:
        UserError: one was given.
    """
    for flag, given in flags.items():
        if given is not None and given is not False:
            raise UserError(f"{flag}: {why}; leave it away")
