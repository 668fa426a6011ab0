"""Ray's start, and in words why there is none.

Owns: which addresses can be joined, whether anybody answers there, where a local cluster listens and keeps its
sockets. Must not know: actors, tokens.

Ray itself waits for minutes for an address where nobody answers, so that it is asked for none that was not looked at.
"""

import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.console.errors import FleetError, UserError
from orchestrator.storage.location import first_line

ANSWER_S = 4.0
"""Seconds that an address gets to answer, and as many that its name gets to be found. Assumption."""

MAX_SOCKET_FOLDER = 38
"""Bytes of a temporary folder's name below which Ray's sockets have names that Linux takes: 107 in all, of which
`/ray/session_2026-11-26_00-53-37_123456_1234567/sockets/plasma_store` are 69."""

SHORT_FOLDER = "/tmp/ray"

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a gRPC client begins: the preface and no settings."""

SETTINGS = 4
"""Kind of the frame that a gRPC server begins with, its fourth byte."""

FORM = "give HOST:PORT as `ray start --head` prints it, or auto on a machine of the cluster"


def require_joinable(address: str | None) -> str | None:
    """Refuse an address where no cluster can be joined, within ten seconds.

    Args:
        address: as `--address` has it; None joins none.
    Returns:
        HOST:PORT of the cluster; None where none is joined.
    Raises:
        UserError: not an address of a cluster, or nobody answers there.
    """
    if address is None:
        return None
    if address == "auto":
        return _answering(address, _of_this_machine())
    if address.startswith(("http://", "https://")):
        raise UserError(f"--address {address}: is a dashboard's; {FORM}, or send the run with `verbatim submit`")
    if address.startswith("ray://"):
        raise UserError(f"--address {address}: is the Ray Client's, which runs cannot use; {FORM}")
    if address == "local":
        raise UserError("--address local: leave the flag away, and Ray is started in this process")
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):\d{1,5}", address):
        raise UserError(f"--address {address}: not an address; {FORM}")
    return _answering(address, address)


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have a local cluster that is started inside listen on loopback alone.

    Ray does so where its node has the address 127.0.0.1, but puts this machine's outer one in its place wherever it
    takes its kind of machine for one that can be a cluster's.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def is_grpc(host: str, port: int, timeout_s: float) -> bool:
    """Whether a gRPC server listens there.

    Raises:
        OSError, OverflowError, UnicodeError: nobody does, or nobody answers in time.
    """
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.sendall(HTTP2)
        return connection.recv(9)[3:4] == bytes([SETTINGS])


def socket_folder() -> dict[str, Any]:
    """What a local start must be told where the machine's temporary folder has a name too long for sockets in it."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return {"_temp_dir": SHORT_FOLDER} if len(os.fsencode(folder)) > MAX_SOCKET_FOLDER else {}


@contextmanager
def told(address: str | None) -> Iterator[None]:
    """What Ray raises when it does not start or is not let in, in one line.

    Raises:
        UserError: a cluster that does not take this process.
        FleetError: no local one came up.
    """
    try:
        yield
    except (UserError, FleetError):
        raise
    except Exception as error:  # Ray raises bare exceptions here
        if address is None:
            raise FleetError(
                f"Ray did not start ({first_line(error)}); is the machine overloaded, or its temporary folder full?"
            ) from error
        raise UserError(
            f"--address {address}: the cluster there does not take this process ({first_line(error)}); it needs the "
            "same versions of Python and Ray, and RAY_AUTH_MODE and the token that the cluster has"
        ) from error


def _of_this_machine() -> str:
    """The cluster that `auto` stands for."""
    from ray._private.services import canonicalize_bootstrap_address_or_die  # as Ray's own command line finds it

    try:
        return canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError as error:
        raise UserError(
            f"--address auto: {first_line(error).split('. ')[0]}; start one with ray start --head"
        ) from error


def _answering(asked: str, address: str) -> str:
    """The address, if a cluster answers there; looked at in a thread: finding a name takes as long as it takes."""
    answers: list[str] = []
    look = threading.Thread(target=lambda: answers.append(_fault(address)), daemon=True)
    look.start()
    look.join(2 * ANSWER_S)
    if fault := answers[0] if answers else "no answer in time":
        raise UserError(f"--address {asked}: no Ray cluster answers at {address} ({fault}); {FORM}")
    return address


def _fault(address: str) -> str:
    """Why nobody can be joined there; empty where a gRPC server answers."""
    host, _, port = address.rpartition(":")
    try:
        return "" if is_grpc(host.strip("[]"), int(port), ANSWER_S) else "something else listens there"
    except (OSError, OverflowError, UnicodeError) as error:
        return first_line(error)
