"""What is printed when a run has ended.

Owns: which parts, as lines or as JSON. Must not know: flags, exit codes, how a run goes.
"""

from functools import partial

from rich.console import Console

from engine.target import decode
from orchestrator.console.terminal import say_json
from orchestrator.results.summary import SMALL_TABLE, Summary, print_end, print_summary, print_table, to_json
from orchestrator.run.preparation import Prepared


def tell(summary: Summary, prepared: Prepared, console: Console, *, as_json: bool, seconds: float) -> None:
    """The table of a small run, the figures, and what to do next.

    Args:
        seconds: of the whole command.
    """
    folder = str(prepared.options.out)
    if as_json:
        say_json(to_json(summary, folder, seconds))
        return
    says = partial(decode, prepared.token_rule)
    if summary.num_rows <= SMALL_TABLE:
        print_table(summary.rows, console, says)
    print_summary(summary, console, says)
    print_end(summary, folder, seconds, console)
