"""Memory: how much there is, which errors say that it ran out, giving back what a failed pass held.

Owns: what this process is told about its machine and its card. Must not know: what the memory is for.
"""

import gc
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30

SAID_BY_TORCH = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")
"""What torch says in a plain RuntimeError where an allocator other than CUDA's gives up."""

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container what it may take."""


@dataclass(frozen=True)
class Memory:
    """Of a card or of a machine, bytes."""

    total: int
    free: int

    @classmethod
    def here(cls, device: str) -> "Memory":
        """What this process sees; on a GPU it opens a context, so it is to be asked in a process that goes away."""
        if device.startswith("cuda"):
            free, total = torch.cuda.mem_get_info()
            return cls(total, free)
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(facts[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        limit = _container_limit()
        return cls(total, free) if limit is None else cls(min(total, limit.total), min(free, limit.free))


def _container_limit() -> Memory | None:
    """What this container may take, and what of it nobody holds; files that it read are given up when asked."""
    try:
        total, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        facts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # none is set ("max"), or the first version of cgroups
        return None
    return Memory(total, max(0, total - used + int(facts.get("inactive_file", 0))))


def bound_this_process(num_bytes: int) -> None:
    """Have torch refuse to take more of this process's card than so much, whatever is free there."""
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, num_bytes / total))


def held_by_this_process(device: str) -> int:
    """Bytes that torch's tensors take of this process's card, from where the peak counts anew; 0 on a CPU."""
    if not device.startswith("cuda"):
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak_since_last_asked() -> int:
    """The most bytes that torch's tensors took of this process's card since this was last asked."""
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return peak


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that this process, or its device, has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in SAID_BY_TORCH)


def reclaim() -> None:
    """Give back what nobody holds any more. To be called after the `except`: a traceback holds its frames' tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
