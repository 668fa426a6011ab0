"""What a command line would make of arguments, without doing anything.

Owns: asking its parser. Must not know: verbs.
"""

from typing import Any, cast

import typer

from orchestrator.console.errors import UserError


def parse(app: typer.Typer, verb: str, arguments: list[str]) -> dict[str, Any]:
    """The values that `verbatim VERB ARGUMENTS` would get.

    Raises:
        UserError: it would refuse them.
    """
    usage_error = cast(type[Exception], typer.BadParameter.__mro__[1])  # the parent of all that a parser refuses
    command = cast(Any, typer.main.get_command(app)).commands[verb]
    try:
        with command.make_context(verb, list(arguments)) as context:
            return dict(context.params)
    except usage_error as error:
        raise UserError(cast(Any, error).format_message()) from None
