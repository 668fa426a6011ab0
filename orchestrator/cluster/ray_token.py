"""Ray's token: who may talk to a cluster.

Owns: whether a token is asked for, and that a local cluster has one. Must not know: actors, addresses.

Whoever reaches a Ray cluster that asks for no token runs code on it. A local one always asks, unless RAY_AUTH_MODE says
otherwise; of one that is joined it is found out. The token is where Ray itself looks: RAY_AUTH_TOKEN, the file that
RAY_AUTH_TOKEN_PATH names, ~/.ray/auth_token.
"""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.console.errors import UserError

MODE, TOKEN, PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ASKED, NONE = "token", "disabled"

ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A question that any cluster answers, or refuses to who has no token."""

REFUSED = "UNAUTHENTICATED"

_settled: str | None = None
"""The mode that this process itself has settled on."""

ANSWER_S = 4.0
"""Seconds for an answer. Assumption."""


def settle(address: str | None) -> None:
    """Have this process talk as the cluster does that it joins, or starts where there is no address.

    Raises:
        UserError: the cluster asks for a token, and there is none here.
    """
    global _settled
    if os.environ.get(MODE) in (None, _settled):  # else it is the user's wish
        os.environ[MODE] = _settled = ASKED if address is None or asks_for_token(address) else NONE
    if is_asked_for() and not _has_token():
        if address is not None:
            raise UserError(f"--address {address}: asks for a token; put the cluster's into {token_file()} or {TOKEN}")
        _make_token()
    _look_again()


def is_asked_for() -> bool:
    """Whether the cluster that this process settled on asks for one."""
    return os.environ.get(MODE) == ASKED


def asks_for_token(address: str) -> bool:
    """Whether the GCS at HOST:PORT refuses who has none; one that does not answer does not."""
    return asked_without(address, ALIVE) == REFUSED


def asked_without(address: str, question: str) -> str:
    """What a gRPC server at HOST:PORT says to who has no token: the name of gRPC's status.

    Args:
        question: the method, `/SERVICE/NAME`; its request is an empty one.
    """
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(question)(b"", timeout=ANSWER_S)
        except grpc.RpcError as error:
            return error.code().name if isinstance(error, grpc.Call) else ""
    return "OK"


def _look_again() -> None:
    """Ray reads the mode when it is imported; it does the same where it settles one by itself."""
    from ray import _raylet

    ray_in_c: Any = _raylet
    ray_in_c.Config.initialize("")
    ray_in_c.AuthenticationTokenLoader.instance().reset_cache()


def _has_token() -> bool:
    return bool(os.environ.get(TOKEN) or os.environ.get(PATH)) or token_file().is_file()


def _make_token() -> None:
    """A file that its owner alone may read, as `ray get-auth-token` finds it; this process's own where none can be."""
    token = secrets.token_hex(32)
    try:
        token_file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=token_file().parent) as file:  # 0600
            file.write(token)
            file.flush()
            with suppress(FileExistsError):  # another run was first: its token is as good
                os.link(file.name, token_file())
    except OSError:
        os.environ[TOKEN] = token


def token_file() -> Path:
    """Where Ray looks for a token that no variable names."""
    return Path.home() / ".ray" / "auth_token"
