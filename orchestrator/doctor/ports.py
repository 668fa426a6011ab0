"""Ports that Ray's processes on this machine listen on: which of them answer others, and whether to anybody.

Owns: finding them, asking them without a token. Must not know: how Ray was started.

Whoever may talk to one of them runs code here. A run's own Ray listens on loopback alone and asks for its token; one
that `ray start` has begun may do neither.
"""

import ipaddress
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.ray_start import is_grpc
from orchestrator.cluster.ray_token import ALIVE, asked_without, token_file
from orchestrator.doctor.finding import Finding

PROC = Path("/proc")
TABLES = ("tcp", "tcp6")
LISTENS = "0A"
"""Of a socket in Linux' tables of them, proc_net_tcp."""

RAYS = ("ray::", "/ray/core/src/", "/ray/dashboard/", "/ray/_private/", "/ray/autoscaler/")
"""Parts of the command lines of Ray's processes."""

ANSWER_S = 2.0
"""Seconds for an answer. Assumption."""

QUESTIONS = (ALIVE, "/ray.rpc.NodeManagerService/GetNodeStats", "/ray.rpc.CoreWorkerService/GetCoreWorkerStats")
"""Of the GCS, a raylet, a worker; none changes anything. Whoever does not know a question says so before it refuses."""

MOST_NAMED = 5
REFUSALS = (b"401", b"403")

REMEDY = (
    "start Ray with RAY_AUTH_MODE=token and --node-ip-address of a private network, see docs/cluster.md; "
    "a run without --address does so by itself"
)


@dataclass(frozen=True)
class Port:
    """Something that listens.

    Attributes:
        process: the end of its name, or of its program's.
        host: the address it listens on, `0.0.0.0` and `::` for all.
    """

    process: str
    host: str
    number: int

    @property
    def is_loopback(self) -> bool:
        address = ipaddress.ip_address(self.host)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback

    def __str__(self) -> str:
        return f"{self.process} {self.number}"


def examine_ports() -> Finding:
    """Which of Ray's ports here answer others without a token."""
    if (file := token_file()).is_file() and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        found = f"others on this machine may read the token in {file}"
        return Finding("Ray's token", True, found, f"chmod 600 {file}", is_warning=True)
    ports = ray_ports()
    reachable = [port for port in ports if not port.is_loopback]
    wide_open = [port for port in reachable if answers_anybody(port)]
    if wide_open:
        named = ", ".join(map(str, wide_open[:MOST_NAMED])) + ", ..." * (len(wide_open) > MOST_NAMED)
        found = f"{len(wide_open)} of {len(ports)} answer others without a token: {named}"
        return Finding("Ray's ports", True, found, REMEDY, is_warning=True)
    if not ports:
        return Finding("Ray's ports", True, "none yet; a run listens on 127.0.0.1 alone and asks for a token")
    found = f"{len(ports)}, of which {len(reachable)} can be reached from outside, none of them without a token"
    return Finding("Ray's ports", True, found)


def ray_ports() -> list[Port]:
    """Those of all processes that this user may look at."""
    listening = {inode: place for table in TABLES for inode, place in _listening(PROC / "net" / table)}
    found = []
    for process in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it went, or is another's
            command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
            if any(part in command for part in RAYS):
                places = [listening[inode] for inode in _sockets(process) if inode in listening]
                found += [Port(_short(command), *place) for place in places]
    return sorted(set(found), key=lambda port: port.number)


def answers_anybody(port: Port) -> bool:
    """Whether it answers who has no token with anything but a refusal; silence is none."""
    host = "127.0.0.1" if port.host in ("0.0.0.0", "::") else port.host
    address = f"[{host}]:{port.number}" if ":" in host else f"{host}:{port.number}"
    try:
        if is_grpc(host, port.number, ANSWER_S):
            return any(asked_without(address, question) in ("OK", "INVALID_ARGUMENT") for question in QUESTIONS)
        with socket.create_connection((host, port.number), ANSWER_S) as connection:
            connection.sendall(b"GET /api/version HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            answer = connection.recv(64)
    except OSError:
        return False
    return answer.startswith(b"HTTP/") and answer.split()[1] not in REFUSALS


def _listening(table: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    """(inode, (address, port)) of each."""
    with suppress(FileNotFoundError):
        for line in table.read_text().splitlines()[1:]:
            (
                _,
                local,
                _,
                state,
                *_,
            ) = cells = line.split()
            if state == LISTENS:
                address, port = local.split(":")
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                yield cells[9], (str(ipaddress.ip_address(b"".join(words))), int(port, 16))


def _sockets(process: Path) -> Iterator[str]:
    """Inodes of the sockets that it holds."""
    for link in (process / "fd").iterdir():
        with suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]


def _short(command: str) -> str:
    """`gcs_server`, `dashboard.py`, `ray::Agent`."""
    word = next(word for word in command.split() if any(part in word for part in RAYS))
    return word.rpartition("/")[2]
