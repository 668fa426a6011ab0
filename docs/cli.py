"""Write docs/cli.md from the command line itself.

    python docs/cli.py

Owns: how the page looks. Must not know: verbs; their words are in the code, beside what they do.
"""

from pathlib import Path
from typing import Any

import typer

from orchestrator.app import ORDER
from tune_spaces.cli import app

PAGE = Path(__file__).with_name("cli.md")

HEAD = """# The command line

`python docs/cli.py` writes this page from the commands themselves; a test fails when it is not what they say.
`verbatim VERB --help` says the same in a terminal, `verbatim --install-completion` has the shell complete verbs,
options and their values, and `verbatim --version` tells the versions that decide results.

A command ends 0 when all is well, 1 when workers could not be kept alive or an object store failed, 2 on bad input or
configuration (one line says what and what to do), 3 when some texts are not verified, 130 after Ctrl-C, 143 after
SIGTERM.

"""


def page() -> str:
    """The whole page."""
    verbs = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    return HEAD + "\n".join(_verb(name, verbs[name]) for name in ORDER if name in verbs)


def _verb(name: str, verb: Any) -> str:
    told = [f"## verbatim {name}\n", f"{verb.help}\n"]
    arguments = [each for each in verb.params if each.param_type_name == "argument"]
    options = [each for each in verb.params if each.param_type_name == "option" and each.name != "help"]
    usage = " ".join([name, *(_usage(each) for each in arguments), "[OPTIONS]"])
    told += [f"```\nverbatim {usage}\n```\n", "| | default | |", "|---|---|---|"]
    return "\n".join([*told, *map(_line, [*arguments, *options]), ""])


def _usage(argument: Any) -> str:
    name = _metavar(argument) or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _line(param: Any) -> str:
    is_argument = param.param_type_name == "argument"
    name = _metavar(param) or param.name.upper() if is_argument else ", ".join([*param.opts, *param.secondary_opts])
    value = "" if is_argument or getattr(param, "is_flag", False) else f" {_metavar(param) or _kind(param)}"
    return f"| `{name}{value}` | {_default(param)} | {_escaped(param.help or '')} |"


def _metavar(param: Any) -> str | None:
    return param.metavar


def _kind(param: Any) -> str:
    return {int: "N", float: "X", Path: "PATH"}.get(param.type_descriptor.annotation, "TEXT")


def _default(param: Any) -> str:
    if param.default in (None, False, (), []) or callable(param.default):
        return "required" if param.required else ""
    return "on" if param.default is True else f"`{param.default}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
