"""Where no cluster can be joined: one line with the way out, soon."""

import socket
import threading
import time

import pytest

from orchestrator.cluster import ray_start
from orchestrator.console.errors import FleetError, UserError


@pytest.fixture
def listening():
    """A server that answers every connection with the same bytes: `listening(bytes)` gives its address."""
    servers = []

    def start(answer):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(("address", "said"), [
    ("nonsense", "not an address"), ("", "not an address"), ("host:port", "not an address"),
    ("ray://127.0.0.1:10001", "is the Ray Client's"), ("http://127.0.0.1:8265", "`verbatim submit`"),
    ("local", "leave the flag away"), ("127.0.0.1:1", "Connection refused"), ("[::1]:1", "no Ray cluster answers"),
    ("127.0.0.1:99999", "no Ray cluster answers"), ("no-such-host.invalid:6379", "no Ray cluster answers"),
])  # fmt: skip
def test_an_address_that_nobody_can_join_is_one_line_within_ten_seconds(address, said):
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        ray_start.require_joinable(address)
    assert time.monotonic() - started < 10
    assert str(error.value).startswith(f"--address {address}: ") and said in str(error.value)
    assert "\n" not in str(error.value)


def test_only_a_grpc_server_is_a_cluster(listening):
    with pytest.raises(UserError, match="something else listens there"):
        ray_start.require_joinable(listening(b"HTTP/1.1 400 Bad Request\r\n"))
    ray_start.require_joinable(listening(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])))


def test_who_listens_and_never_answers_is_not_waited_for(listening, monkeypatch):
    monkeypatch.setattr(ray_start, "ANSWER_S", 0.2)
    server = socket.create_server(("127.0.0.1", 0))
    with server, pytest.raises(UserError, match="timed out"):
        ray_start.require_joinable(f"127.0.0.1:{server.getsockname()[1]}")


def test_sockets_go_where_their_names_are_short_enough(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for length, options in ((38, {}), (39, {"_temp_dir": "/tmp/ray"})):
        monkeypatch.setattr("tempfile.tempdir", "/" + "a" * (length - 1))
        assert ray_start.socket_folder() == options


def test_what_ray_raises_is_told_in_one_line():
    with (
        pytest.raises(FleetError, match=r"Ray did not start \(no node\); is the machine overloaded"),
        ray_start.told(None),
    ):
        raise Exception("no node\nmore")
    with pytest.raises(UserError, match="--address a:1: the cluster there does not take"), ray_start.told("a:1"):
        raise RuntimeError("Version mismatch")
