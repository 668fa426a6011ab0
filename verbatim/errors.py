"""The one error of the Python API, and the command line's messages put into Python's words.

Owns: what a caller's mistake looks like. Must not know: what can go wrong.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from engine.model_source import ModelError
from engine.settings import SettingsError
from orchestrator.console.errors import UserError

FLAG = re.compile(r"--(?P<name>[a-z]+(?:-[a-z]+)*)(?: (?P<value>[^\s;,:)]+)(?=[;,:)]|$))?")
"""A flag, and what follows it where that ends a clause: a value."""


class VerbatimError(ValueError):
    """A mistake of the caller: one line that names the argument, its value and the remedy."""


@contextmanager
def in_python_words() -> Iterator[None]:
    """Raise what the user could mend as a `VerbatimError`; all other exceptions pass.

    Raises:
        VerbatimError: bad arguments, a model that cannot be had, a folder that is not a run's.
    """
    try:
        yield
    except VerbatimError:
        raise
    except (UserError, ModelError, SettingsError) as error:
        raise VerbatimError(python_words(str(error))) from error


def python_words(message: str) -> str:
    """`--model x: ...` as `model = 'x': ...`, and `with --engine hf` as `with engine='hf'`."""

    def argument(match: re.Match[str]) -> str:
        name, value = match["name"].replace("-", "_"), match["value"]
        if value is None:
            return name
        shown = value if value.isdecimal() else repr(value)
        return f"{name} = {shown}" if match.start() == 0 else f"{name}={shown}"

    return FLAG.sub(argument, message)
