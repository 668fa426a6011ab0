"""`verbatim verify --server`: stored prompts proved by a server that is running already.

Owns: the order of its steps. Must not know: HTTP, Ray.
"""

from functools import partial

from rich.console import Console

from orchestrator.console.progress import make_reporter
from orchestrator.console.terminal import make_console
from orchestrator.proof.claims import read_claims
from orchestrator.proof.reproof import tell
from orchestrator.storage.location import Location
from orchestrator.verifiers.contract import GREEDY
from orchestrator.verifiers.server import Server


def ask_server(folder: Location, url: str, console: Console, *, as_json: bool) -> bool:
    """Have a running server decode every claimed prompt, and print what it says; whether all are exact.

    Raises:
        UserError: not a run's folder, or no server that takes its prompts.
    """
    claims = read_claims(folder)
    server = Server.find(url, claims.record.model.name)
    reporter = make_reporter(make_console(stderr=True), len(claims))
    reporter.stage(f"waiting for the first answers of {server.url}")
    ask = partial(server.judge, ends=claims.record.recipe.end_of_text)
    try:
        return tell(claims, ask, GREEDY, console, as_json=as_json, reporter=reporter)
    finally:
        reporter.close()
