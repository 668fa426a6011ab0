"""One thing that was looked at, and how findings are told.

Owns: the record, its printing. Must not know: what is looked at.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.text import Text

from orchestrator.console.terminal import printable, say


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, what was found, what to do if it is not fine.

    Attributes:
        is_fine: a run would work as far as this check goes.
        is_warning: it would, but the remedy is worth reading.
    """

    name: str
    is_fine: bool
    found: str
    remedy: str = ""
    is_warning: bool = False


def print_findings(findings: Sequence[Finding], console: Console, *, as_json: bool = False) -> None:
    """One line each, and one more with the remedy where there is something to do."""
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    for finding in findings:
        mark, style = ("ok  ", "green") if finding.is_fine else ("FAIL", "bold red")
        if finding.is_fine and finding.is_warning:
            mark, style = "WARN", "bold yellow"
        console.print(Text.assemble((mark, style), f" {finding.name}: "), end="")
        say(console, printable(finding.found))
        if finding.remedy and (not finding.is_fine or finding.is_warning):
            say(console, printable(f"     remedy: {finding.remedy}"))
