"""`verbatim verify --server`: stored prompts proved by a server that is running already.

Owns: the order of its steps. Must not know: HTTP, Ray.
"""

from rich.console import Console

from orchestrator.console.progress import make_reporter
from orchestrator.console.terminal import make_console
from orchestrator.proof.reproof import print_reproof, read_claims, reproof_of
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
    reporter = make_reporter(make_console(stderr=True), len(claims.rows))
    reporter.stage(f"waiting for the first answers of {server.url}")
    try:
        verdicts = server.judge(
            claims.candidates,
            ends=claims.record.recipe.end_of_text,
            on_progress=lambda done: reporter.update(done, f"judged by {server.engine}"),
        )
    finally:
        reporter.close()
    reproof = reproof_of(claims, verdicts, GREEDY)
    print_reproof(reproof, console, as_json=as_json)
    return reproof.is_all_exact
