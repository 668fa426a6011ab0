"""`python -m verbatim`: the command line."""

from tune_spaces.cli import app

app(prog_name="verbatim")
