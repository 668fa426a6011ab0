"""Flags that several verbs have, told once.

Owns: their types and help. Must not know: verbs, defaults.
"""

from typing import Annotated

import typer

A_MODEL = "a causal LM: folder, hub name, pocket (embedded) or smollm2 (a package)"
Model = Annotated[str, typer.Option(help=A_MODEL)]
ModelOfRun = Annotated[str | None, typer.Option("--model", help=f"{A_MODEL}; default pocket, or as --from had")]
Revision = Annotated[str | None, typer.Option(help="hub commit, tag or branch")]
TextColumn = Annotated[str | None, typer.Option(help="column that holds the texts")]
IdColumn = Annotated[str | None, typer.Option(help="column that holds the ids; default id where there is one")]
RowIds = Annotated[bool, typer.Option("--row-ids", help="number the rows, whatever columns there are")]
Format = Annotated[str | None, typer.Option(help="parquet, arrow, json, csv, tsv or txt; default by the ending")]
CsvQuotes = Annotated[str, typer.Option(help='a quote in a CSV cell: doubled "", backslash \\", none (cells unquoted)')]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join; default: Ray in this process")]
Solvers = Annotated[int | None, typer.Option(min=1, help="solver actors")]
SolverGpus = Annotated[float | None, typer.Option(min=0, help="GPUs of each solver; 0 is CPU")]
TokenBudget = Annotated[int | None, typer.Option(min=1, help="positions in a solver's table")]
Dtype = Annotated[str | None, typer.Option(help="solver's numerics: float32, bfloat16, float16")]
Engine = Annotated[str, typer.Option(help="who verifies: vllm or hf")]
VerifyDtype = Annotated[str | None, typer.Option(help="verifier's numerics; default the solver's")]
Dashboard = Annotated[bool, typer.Option(help="serve the Ray dashboard while the command lasts")]
Lease = Annotated[float, typer.Option(min=10, help="seconds an actor may take over one call")]
Corpus = Annotated[str | None, typer.Argument(metavar="CORPUS", help="texts: file, folder or URI; - is standard input")]
From = Annotated[
    str | None, typer.Option("--from", metavar="DIR", help="in CORPUS's place: texts and ids of an earlier run's rows")
]
Status = Annotated[str | None, typer.Option(metavar="S,S", help="which rows --from takes; default unsolved,rejected")]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="only the first N rows of the corpus")]
Ids = Annotated[str | None, typer.Option(metavar="A,B", help="only rows of these ids; @FILE holds one a line")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="tell what would be done: targets, invalid rows, memory, work; do nothing")
]
