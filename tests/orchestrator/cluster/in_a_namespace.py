"""A local Ray in a network of its own, with an outer address, and a neighbour who asks each of its ports.

Runs in a network namespace that it may change (`unshare -rn`); prints what the neighbour was answered as JSON.
"""

import json
import socket
import subprocess
import sys
import threading
import time

import ray

from orchestrator.cluster import ray_token
from orchestrator.doctor import ports
from orchestrator.fleet import workers

HERE, THERE = "10.7.7.1", "10.7.7.2"

PROBE = """
import json, socket, sys
def answer(port):
    try:
        with socket.create_connection((sys.argv[1], port), 5) as it:
            it.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
            return "answers"
    except OSError as error:
        return type(error).__name__
print(json.dumps({port: answer(int(port)) for port in sys.argv[2:]}))
"""


def neighbour() -> subprocess.Popen[bytes]:
    """A process in a network of its own that is joined to this one by a cable."""
    process = subprocess.Popen(["unshare", "-n", "sleep", "300"])
    time.sleep(0.5)
    inside = ["nsenter", "-t", str(process.pid), "-n"]
    for command in (
        "ip link set lo up",
        f"ip link add cable type veth peer name cable netns {process.pid}",
        f"ip addr add {HERE}/24 dev cable",
        "ip link set cable up",
        f"ip route add default via {THERE}",  # so that Ray would take HERE for this machine's address
    ):
        subprocess.run(command.split(), check=True)
    for command in (f"ip addr add {THERE}/24 dev cable", "ip link set cable up"):
        subprocess.run([*inside, *command.split()], check=True)
    return process


def listening() -> dict[int, bool]:
    """All ports of this network, and whether they are on loopback."""
    found = [place for table in ports.TABLES for _, place in ports._listening(ports.PROC / "net" / table)]
    return {number: ports.Port("", host, number).is_loopback for host, number in found}


@ray.remote(num_cpus=0)
class Actor:
    def port(self) -> int:
        return 0


def main() -> None:
    other = neighbour()
    try:
        control = socket.create_server(("0.0.0.0", 0))
        threading.Thread(target=control.accept, daemon=True).start()
        dashboard = workers.connect(None, dashboard=True)
        ray.get(Actor.remote().port.remote())
        found = listening()
        command = ["nsenter", "-t", str(other.pid), "-n", sys.executable, "-c", PROBE, HERE, *map(str, found)]
        said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        gcs = ray.get_runtime_context().gcs_address
        control_port = control.getsockname()[1]
        print(json.dumps({
            "control": said.pop(str(control_port)),
            "answers": said,
            "dashboard": dashboard,
            "gcs": gcs,
            "asks_for_token": ray_token.asks_for_token(gcs),
            "rays": [str(port) for port in ports.ray_ports()],
            "answer_anybody_here": [str(port) for port in ports.ray_ports() if ports.answers_anybody(port)],
            "finding": ports.examine_ports().found,
        }))  # fmt: skip
    finally:
        ray.shutdown()
        other.kill()


if __name__ == "__main__":
    main()
