"""Why an actor failed, in one line, and the error that says so across Ray.

Owns: the line worth reading in a chain of exceptions or in Ray's report of a death. Must not know: which actor it was,
what is done about it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from ray.exceptions import RayError, RayTaskError

from engine.model_source import ModelError
from orchestrator.console.errors import FleetError, StorageError, UserError
from orchestrator.process.memory import is_out_of_memory

MOST = 400
"""Characters of somebody else's reason that are shown. Assumption."""

OURS = (UserError, ModelError, FleetError, StorageError, TimeoutError)
"""Errors whose message is a whole sentence, written here."""

WRAPPER = re.compile("Engine core initialization failed|Failed core proc|EngineCore encountered an issue")
"""What vLLM says where the reason is the error beneath."""

FOR_VLLMS_OWN_USERS = re.compile(
    r"\s*(Supported architectures:|Try (in|de)creasing|Decrease GPU memory|See (https?:|root cause)).*"
)
"""Lists, and advice on options that a user of this project does not set."""

WANTS_MEMORY = re.compile("KV cache|Free memory on device|memory for the cache blocks|out of memory", re.IGNORECASE)
"""How vLLM says that there is too little memory, in plain ValueErrors."""

LESS_MEMORY = "shorter texts, a smaller --dtype or a larger card need less; `verbatim doctor --model` gives the numbers"


class StartError(UserError):
    """An actor could not load what it is to hold, for a reason that another start would meet again."""


@contextmanager
def told_at_start(what: str, remedy: str) -> Iterator[None]:
    """Whatever keeps an actor from loading, as one line that crosses Ray.

    Args:
        what: names the model and says who cannot have it.
        remedy: unless memory is what is missing.
    Raises:
        UserError, ModelError: as they are.
        StartError: for any other exception.
    """
    try:
        yield
    except (UserError, ModelError):
        raise
    except Exception as error:
        why = reason(error)
        lacks_memory = is_out_of_memory(error) or WANTS_MEMORY.search(why)
        raise StartError(f"{what} ({why}); {LESS_MEMORY if lacks_memory else remedy}") from error


def reason(error: BaseException) -> str:
    """What an exception says, on one line of bounded length; the one beneath where it only says that one was."""
    while WRAPPER.search(str(error)) and (beneath := error.__cause__ or error.__context__) is not None:
        error = beneath
    if isinstance(error, RayError):
        return _death(error)
    if isinstance(error, ValidationError):
        said = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
    else:
        said = str(error) if isinstance(error, OURS) else f"{type(error).__name__}: {error}"
    return _shortened(said)


def _death(error: RayError) -> str:
    """What Ray reports: the exception inside a method, or how a process ended."""
    if isinstance(error, RayTaskError):
        return reason(error.cause)
    report = " ".join(str(error).split())
    if "running low on memory" in report:
        return "its node ran low on memory, and Ray ended it"
    if "connection error code" in report:  # Ray knows no more of a process that is suddenly gone
        return "its process was killed or crashed, most often for want of memory"
    return _shortened(re.sub(r".*(Worker exit detail: |The actor (is dead|died) because )", "", report))


def _shortened(said: str) -> str:
    line = FOR_VLLMS_OWN_USERS.sub("", " ".join(said.split())).rstrip(" .:")
    return line if len(line) <= MOST else f"{line[: MOST - 3]}..."
