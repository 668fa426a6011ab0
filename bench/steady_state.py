"""A table of the solver at work: what a step costs, against what the device can do at most.

Owns: the ceilings, full tables of random texts, what is counted of a step. Must not know: which models, Ray, vLLM.

A step of a frozen model costs 4 floating-point operations a parameter and position: 2 forward, 2 backward, none for the
weights' own gradient.
"""

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from engine.footprint import Footprint
from engine.frozen_lm import FrozenLM
from engine.layout import Layout
from engine.recipe import Recipe
from engine.recipe.sections import LossRecipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target

NUM_VECTORS = 16
ENDLESS = Recipe(stop_margin=1e9, loss=LossRecipe(margin=2e9))
"""Asks for more than any attempt comes to, so that a table stays full."""

LENGTHS = {"equal": (49, 49), "mixed": (9, 129)}
"""Fewest and most tokens of a target."""


@dataclass
class Machine:
    """Where it runs, and what that can do at most.

    Attributes:
        product: floating-point operations a second of a large bfloat16 product.
        copy: bytes a second, read and written, of a large copy on the device.
    """

    device: str
    name: str
    memory: int
    product: float = 0.0
    product_float32: float = 0.0
    copy: float = 0.0

    @classmethod
    def found(cls, device: str, *, size: int) -> "Machine":
        is_cuda = device == "cuda"
        properties: Any = torch.cuda.get_device_properties(0) if is_cuda else None
        machine = cls(device, properties.name if is_cuda else "cpu", properties.total_memory if is_cuda else 0)
        machine.product = _product_rate(device, size, torch.bfloat16)
        machine.product_float32 = _product_rate(device, size // 2, torch.float32)
        block = torch.empty(min(1 << 31, 16 * size**2), dtype=torch.int8, device=device)
        machine.copy = 2 * block.numel() / seconds_of(block.clone, device)
        return machine

    def rate(self, dtype: torch.dtype) -> float:
        """Of a product in a model's numerics."""
        return self.product_float32 if dtype == torch.float32 else self.product


def _product_rate(device: str, size: int, dtype: torch.dtype) -> float:
    a, b = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: a @ b, device)


def seconds_of(run: Callable[[], Any], device: str, repeats: int = 10) -> float:
    """Median wall time of one call, the device waited for."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        wait_for(device)
        began = time.perf_counter()
        run()
        wait_for(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def jobs(lm: FrozenLM, positions: int, kind: str) -> list[Job]:
    """Attempts on random tokens that fill a table of `positions` twice over and do not end by themselves."""
    fewest, most = LENGTHS[kind]
    generator, filled, made = torch.Generator().manual_seed(1), 0, []
    while filled < 2 * positions:
        length = int(torch.randint(fewest, most + 1, (1,), generator=generator))
        ids = tuple(torch.randint(lm.token_rule.num_embeddings, (length,), generator=generator).tolist())
        made.append(
            Job(Target(str(len(made)), "", ids), Recipe(stop_margin=1e9, loss=LossRecipe(margin=2e9)), NUM_VECTORS)
        )
        filled += made[-1].num_positions
    return made


@dataclass
class Passes:
    """Every pass through the body while it is counted.

    Attributes:
        shapes: (B, S) of each.
    """

    shapes: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def counted(cls, lm: FrozenLM) -> Iterator["Passes"]:
        passes, read_rows = cls(), lm.read_rows

        def counting(prompts_RD: Tensor, contexts_ND: Tensor, layout: Layout) -> Tensor:
            passes.shapes.append(layout.shape)
            return read_rows(prompts_RD, contexts_ND, layout)

        lm.read_rows = counting  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield passes
        finally:
            del lm.read_rows


def steady_state(lm: FrozenLM, machine: Machine, positions: int, kind: str, *, warm: int, steps: int) -> dict[str, Any]:
    """Steps of a full table: positions a second, share of the product's rate, passes, padding, kernels, waits."""
    solver = Solver(lm, table_positions=positions)
    for job in jobs(lm, positions, kind):
        solver.submit(job)
    is_cuda = machine.device == "cuda"
    base = torch.cuda.memory_allocated() if is_cuda else 0
    for _ in range(warm):
        solver.step()
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    before, times = solver.num_positions, []
    with Passes.counted(lm) as passes:
        for _ in range(steps):
            wait_for(machine.device)
            began = time.perf_counter()
            solver.step()
            wait_for(machine.device)
            times.append(time.perf_counter() - began)
    read = (solver.num_positions - before) / steps
    step_s = statistics.median(times)
    kernels = _kernels(solver) if is_cuda else None
    padded = sum(b * s for b, s in passes.shapes) / steps
    return {
        "table": positions, "lengths": kind, "slots": len(solver.active), "step_s": step_s, "times": times,
        "positions_a_second": read / step_s, "positions_a_step": read, "passes_a_step": len(passes.shapes) / steps,
        "padding": 1 - read / padded, "efficiency": 4 * parameters(lm) * read / step_s / machine.rate(lm.dtype),
        "kernel_share": kernels and kernels["seconds"] / step_s, "launches": kernels and kernels["launches"],
        "dearest": kernels and kernels["dearest"],
        "waits_a_step": _waits(solver) if is_cuda else None,
        "peak_bytes": torch.cuda.max_memory_allocated() - base if is_cuda else None,
        "estimated_bytes": int(padded / max(1, len(passes.shapes) / steps) * estimate(lm)),
    }  # fmt: skip


def parameters(lm: FrozenLM) -> int:
    """Those that a position is multiplied with: all but the table that is only looked up."""
    total = sum(weight.numel() for weight in lm.model.parameters())
    return total - (0 if lm.head.weight_VD is lm.embedding.weight else lm.embedding.weight.numel())


def estimate(lm: FrozenLM) -> int:
    """Bytes a position that the product plans with."""
    dtype = {torch.bfloat16: "bfloat16", torch.float32: "float32"}[lm.dtype]
    return Footprint.of_skeleton(lm.model, lm.token_rule.context).training_bytes_a_position(dtype)


def _kernels(solver: Solver) -> dict[str, Any]:
    """Seconds that the device computed during one step, how many kernels it was given, and the dearest of them."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        solver.step()
        torch.cuda.synchronize()
    spans = [event for event in profiler.events() or () if event.device_type == DeviceType.CUDA]
    by_name: dict[str, list[float]] = {}
    for span in spans:
        by_name.setdefault(span.name[:100], []).append(span.device_time / 1e6)
    dearest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:15]
    return {
        "seconds": sum(span.device_time for span in spans) / 1e6, "launches": len(spans),
        "dearest": [[name, sum(seconds), len(seconds)] for name, seconds in dearest],
    }  # fmt: skip


def _waits(solver: Solver) -> int:
    """How often a step made the host wait for the device."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        solver.step()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in told)
