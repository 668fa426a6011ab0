"""`verbatim submit`: a run or a search as a job of a Ray cluster, sent from outside it.

Owns: the job's command, what must hold before it is sent, following it. Must not know: how either works.

Relative paths travel with the runtime environment's `working_dir` and mean the same there; absolute paths are the
cluster's. The job's own copy of the working directory is thrown away, so results need an absolute folder.
"""

import asyncio
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.console.errors import UserError
from orchestrator.console.terminal import printable
from orchestrator.process import interrupts
from orchestrator.storage.location import STDIN, Location, parse_location

RUNTIME_ENV = Path("deploy/runtime_env.yaml")
DASHBOARD = "http://127.0.0.1:8265"
"""Where `ray dashboard` and `kubectl port-forward` leave a cluster's dashboard."""

POLL_S = 2.0
"""Seconds between two looks at a job whose log cannot be followed. Assumption."""

TOKEN_REMEDY = "export RAY_AUTH_MODE=token, with the cluster's token in ~/.ray/auth_token or RAY_AUTH_TOKEN"


@dataclass(frozen=True)
class Submission:
    """A job to be sent.

    Attributes:
        arguments: what stands after `verbatim VERB`, the cluster's address left out.
        address: the dashboard, http or https.
        runtime_env: runtime environment, YAML.
        verb: `run` or `tune`.
    """

    arguments: tuple[str, ...]
    address: str = DASHBOARD
    runtime_env: Path = RUNTIME_ENV
    verb: str = "run"

    @property
    def entrypoint(self) -> str:
        """The job's command, quoted for a shell; inside a job, `auto` is the cluster it runs on."""
        return shlex.join(["verbatim", self.verb, *self.arguments, "--address", "auto"])

    @property
    def command(self) -> str:
        """The same submission with Ray's own tool, to copy and paste."""
        parts = ["ray", "job", "submit", "--address", self.address, "--runtime-env", str(self.runtime_env)]
        return f"{shlex.join(parts)} -- {self.entrypoint}"


def require_texts(corpus: str | None, earlier: str | None, ids: str | None) -> None:
    """The texts, and a file of ids, must be where the job can read them.

    Args:
        corpus, earlier, ids: as CORPUS, `--from` and `--ids` have them.
    Raises:
        UserError: one is not.
    """
    if earlier is None:
        require_travels("CORPUS", parse_location(corpus or "", "CORPUS"))
    elif isinstance(place := parse_location(earlier, "--from"), Path) and not place.is_absolute():
        raise UserError(f"--from {earlier}: results are not sent along; give an absolute folder there, or a URI")
    if ids is not None and ids.startswith("@"):
        require_travels("--ids", Path(ids[1:]))


def require_travels(flag: str, path: Location) -> None:
    """A relative path must be a file below this folder; a URI is the same everywhere.

    Raises:
        UserError: it is not there, or lies outside.
    """
    if path == STDIN:
        raise UserError(f"{flag} {path}: a job has no standard input; write the texts to a file")
    if not isinstance(path, Path) or path.is_absolute():
        return
    if not path.exists():
        raise UserError(
            f"{flag} {path}: no such file here; a relative path is sent along, an absolute one is the cluster's"
        )
    if not path.resolve().is_relative_to(Path.cwd().resolve()):
        raise UserError(f"{flag} {path}: outside this folder, so not sent along; copy it here or give a path there")


def require_lasting(out: str | None) -> None:
    """Results must outlive the job's own folder.

    Raises:
        UserError: they would not.
    """
    location = None if out is None else parse_location(out, "--out")
    if location is None or (isinstance(location, Path) and not location.is_absolute()):
        remedy = "give --out an absolute folder that the cluster keeps; the job's own folder is thrown away"
        raise UserError(f"--out {out}: {remedy}" if out else remedy)


def submit(submission: Submission, say: Callable[[str], None]) -> int:
    """Send the job, follow its log, give the exit code of its command, or 1 where Ray does not know it.

    Raises:
        UserError: no cluster there, no access, or not accepted.
    """
    client = _client(submission.address)
    job = _send(client, submission)
    say(f"job {job} on {submission.address}")
    try:
        _follow(client, job, say)
        details = _ended(client, job)
    except KeyboardInterrupt:
        say(f"left; the job goes on. To stop it: ray job stop {job} --address {submission.address}")
        return interrupts.exit_code()
    except OSError as error:
        say(f"lost sight of the job ({_first_line(error)}); it may go on: ray job status {job}")
        return 1
    say(f"job {job}: {details.status}")
    return exit_code(str(details.status), details.driver_exit_code)


def exit_code(status: str, driver_exit_code: int | None) -> int:
    """0 for a success; else what the job's process ended with, where that is known."""
    if status == "SUCCEEDED":
        return 0
    return driver_exit_code if driver_exit_code is not None and 0 < driver_exit_code < 256 else 1


def _client(address: str) -> Any:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address {address}: must be the dashboard's, as in {DASHBOARD}")
    # Ray prefers this variable, and after it RAY_ADDRESS, to the address it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise UserError(f"--address {address}: asks for another token; {TOKEN_REMEDY}") from None
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--address {address}: no Ray dashboard answers ({_first_line(error)}); "
            "open a tunnel with `ray dashboard cluster.yaml` or `kubectl port-forward`"
        ) from None


def _send(client: Any, submission: Submission) -> str:
    runtime_env = _read_runtime_env(submission.runtime_env)
    try:
        return client.submit_job(entrypoint=submission.entrypoint, runtime_env=runtime_env)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{submission.address}: does not take the job ({_first_line(error)})") from error


def _read_runtime_env(path: Path) -> dict[str, Any]:
    import yaml

    try:
        runtime_env = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--runtime-env {path}: no such file; run from the checkout's root, or give another") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--runtime-env {path}: not readable YAML ({_first_line(error)})") from None
    if not isinstance(runtime_env, dict):
        raise UserError(f"--runtime-env {path}: must be a mapping of Ray's runtime environment fields")
    return runtime_env


def _follow(client: Any, job: str, say: Callable[[str], None]) -> None:
    """Pass the job's log on until the job ends; a connection that breaks is told of, and the job still waited for."""

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            print("\n".join(map(printable, lines.split("\n"))), end="", flush=True)

    try:
        asyncio.run(tail())
    except (OSError, RuntimeError) as error:
        say(f"the log broke off ({_first_line(error)}); waiting for the job's end")


def _ended(client: Any, job: str) -> Any:
    while True:
        details = client.get_job_info(job)
        if details.status.is_terminal():
            return details
        time.sleep(POLL_S)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
