"""Locked by default: a local Ray answers nobody outside, and nobody without its token."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from orchestrator.cluster import ray_token
from orchestrator.console.errors import UserError
from orchestrator.doctor import ports
from orchestrator.doctor.ports import Port

NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "--kill-child"]


def require_namespaces():
    """Skip where the kernel, or what is installed, gives no second network."""
    wanted = "ip link add cable type veth peer name other && nsenter --version"
    try:
        tried = subprocess.run([*NAMESPACE, "sh", "-c", wanted], capture_output=True, text=True, timeout=20)
    except FileNotFoundError as error:
        pytest.skip(f"no {error.filename} on this machine")
    if tried.returncode:
        pytest.skip(f"no second network on this machine: {tried.stderr.strip()}")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_another_network_every_port_of_a_local_ray_is_refused(tmp_path):
    require_namespaces()
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [*NAMESPACE, sys.executable, "-m", "tests.orchestrator.cluster.in_a_namespace"]
    ended = subprocess.run(command, env=env | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["control"] == "answers"  # the way is open, so that a refusal means something
    assert len(said["answers"]) >= 8 and set(said["answers"].values()) == {"ConnectionRefusedError"}
    assert said["gcs"].startswith("127.0.0.1:") and said["asks_for_token"]
    assert {"gcs_server", "raylet", "dashboard.py"} <= {name.split()[0] for name in said["rays"]}
    # On loopback the pages of metrics alone ask nobody for a token.
    assert {name.split()[0] for name in said["answer_anybody_here"]} <= {
        "ray::DashboardAgent", "monitor.py", "dashboard.py",
    }  # fmt: skip
    assert "of which 0 can be reached from outside" in said["finding"]
    assert stat.S_IMODE((tmp_path / ".ray" / "auth_token").stat().st_mode) == 0o600


@pytest.fixture
def gcs():
    """A gRPC server that answers as a GCS does: `gcs(StatusCode | None)` gives its address."""
    servers = []

    def start(status):
        def alive(request, context):
            if status is not None:
                context.abort(status, "no")
            return b""

        handlers = {"CheckAlive": grpc.unary_unary_rpc_method_handler(alive)}
        server = grpc.server(ThreadPoolExecutor(1))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(ray_token.ALIVE.split("/")[1], handlers)])
        servers.append(server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        return address

    yield start
    for server in servers:
        server.stop(None)


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """`settle(address)` gives the mode that was settled on; nobody's own token is touched."""
    monkeypatch.setattr(ray_token, "_look_again", lambda: None)
    for name in (ray_token.MODE, ray_token.TOKEN, ray_token.PATH):
        monkeypatch.setenv(name, "")  # so that it is as it was afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def settle(address):
        ray_token.settle(address)
        return os.environ[ray_token.MODE]

    return settle


def test_a_local_cluster_asks_for_a_token_that_is_made_once_for_its_owner_alone(settled, tmp_path):
    assert settled(None) == "token"
    file = tmp_path / ".ray" / "auth_token"
    token = file.read_text()
    assert len(token) == 64 and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert settled(None) == "token" and file.read_text() == token and list(file.parent.iterdir()) == [file]


def test_where_no_file_can_be_the_token_is_this_process_s_own(settled, tmp_path):
    (tmp_path / ".ray").write_text("a file in the way")
    assert settled(None) == "token" and len(os.environ[ray_token.TOKEN]) == 64


def test_the_mode_that_the_environment_names_stays(settled, monkeypatch, tmp_path):
    monkeypatch.setenv(ray_token.MODE, "disabled")
    assert settled(None) == "disabled" and not (tmp_path / ".ray").exists()


def test_of_a_cluster_that_is_joined_it_is_found_out(settled, gcs, monkeypatch):
    assert settled(gcs(None)) == "disabled"
    monkeypatch.delenv(ray_token.MODE)
    locked = gcs(grpc.StatusCode.UNAUTHENTICATED)
    with pytest.raises(UserError, match=f"--address {locked}: asks for a token; put the cluster's into "):
        settled(locked)
    monkeypatch.delenv(ray_token.MODE)
    monkeypatch.setenv(ray_token.TOKEN, "theirs")
    assert settled(locked) == "token"


def test_a_port_is_open_to_anybody_where_it_answers_without_a_token(gcs):
    for status, is_open in (
        (None, True), (grpc.StatusCode.UNAUTHENTICATED, False), (grpc.StatusCode.UNIMPLEMENTED, False),
    ):  # fmt: skip
        assert ports.answers_anybody(Port("gcs_server", "127.0.0.1", int(gcs(status).split(":")[1]))) == is_open
    assert not ports.answers_anybody(Port("gone", "127.0.0.1", 1))


@pytest.mark.parametrize(("host", "is_loopback"), [
    ("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False),
    ("::ffff:10.0.0.1", False), ("192.0.2.2", False),
])  # fmt: skip
def test_what_is_loopback(host, is_loopback):
    assert Port("", host, 1).is_loopback == is_loopback


def test_doctor_names_what_answers_others_without_a_token(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    serve = f"exec -a ray::Open {sys.executable} -u -m http.server 0 --bind 0.0.0.0 --directory {tmp_path}"
    with subprocess.Popen(["bash", "-c", serve], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split()[5].decode()
            monkeypatch.setattr(ports, "PROC", only(tmp_path / "proc", process.pid))
            finding = ports.examine_ports()
        finally:
            process.kill()
    assert finding.is_warning and finding.is_fine
    assert finding.found == f"1 of 1 answer others without a token: ray::Open {port}"
    assert "RAY_AUTH_MODE=token" in finding.remedy


def only(folder, pid):
    """A /proc in which there is one process, and the machine's sockets."""
    folder.mkdir()
    (folder / str(pid)).symlink_to(f"/proc/{pid}")
    (folder / "net").symlink_to("/proc/net")
    return folder


def test_a_token_that_others_may_read_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("secret")
    file.chmod(0o644)
    finding = ports.examine_ports()
    assert finding.is_warning and finding.remedy == f"chmod 600 {file}"
