"""The application that every verb is registered with.

Owns: its help, `--version`, the order of the verbs. Must not know: verbs.

Exit codes: 0 all verified, 1 actors could not be kept alive or an object store failed, 2 bad input or
configuration, 3 some texts not verified, 130 interrupted, 143 by SIGTERM.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator.console.completion import print_version
from orchestrator.console.terminal import make_console

ORDER = ("run", "status", "report", "decode", "verify", "export", "tune", "learn", "doctor", "submit")
"""Of the verbs in the help: as one meets them."""

LIBRARIES = "loading libraries"
"""What goes on in the first seconds of most verbs."""


class InOrder(TyperGroup):
    """Verbs in the order one meets them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(name="verbatim", cls=InOrder, no_args_is_help=True, pretty_exceptions_enable=False)
console = make_console()


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="versions, and nothing else")
    ] = False,
) -> None:
    """Make a frozen language model say exact texts: one soft prompt a text, proved by a second engine."""
