"""Where actors run: how many solvers, and which share of which device each actor gets.

Owns: the sharing of CPUs and GPUs. Must not know: what the actors do.
"""

import os
from dataclasses import dataclass

from orchestrator.errors import UserError

CPU_TOKEN_BUDGET = 1536
"""Read positions in a CPU solver's table: its activations stay near the caches. Measured, LOG 2026-11-21."""

GPU_TOKEN_BUDGET = 4096
"""Read positions in a GPU solver's table: fits a 7B model's activations beside its weights. Assumption."""


@dataclass(frozen=True)
class Placement:
    """Resources of the run's actors.

    Attributes:
        num_solvers: solver actors.
        device: `cpu` or `cuda`.
        solver_gpus: GPUs of each solver, fractions allowed.
        verifier_gpus: GPUs of the verifier.
        solver_threads: torch threads of each solver.
        token_budget: read positions in each solver's table.
        verifier_threads: threads of a verifier on the CPU.
    """

    num_solvers: int
    device: str
    solver_gpus: float
    verifier_gpus: float
    solver_threads: int
    token_budget: int
    verifier_threads: int = 1

    @property
    def dtype(self) -> str:
        """The solver's numerics where none are asked for."""
        return "float32" if self.device == "cpu" else "bfloat16"


def place(
    num_gpus: float,
    *,
    num_solvers: int | None = None,
    solver_gpus: float | None = None,
    token_budget: int | None = None,
    num_cpus: int | None = None,
) -> Placement:
    """Share what a cluster has.

    One GPU is split between solver and verifier; with more, each solver takes one and the verifier another.

    Args:
        num_gpus: GPUs of the whole cluster.
        num_solvers: asked for, or None.
        solver_gpus: GPUs of each solver, asked for, or None.
        token_budget: asked for, or None.
        num_cpus: processors of this machine; threads are shared among its CPU solvers.
    Raises:
        UserError: more GPUs asked for than there are.
    """
    cpus = num_cpus or os.cpu_count() or 1
    if num_gpus == 0 or solver_gpus == 0:
        solvers = num_solvers or 1
        return Placement(solvers, "cpu", 0, 0, max(1, cpus // solvers), token_budget or CPU_TOKEN_BUDGET)
    if solver_gpus is None:
        solver_gpus = 0.6 if num_gpus == 1 else 1.0
    verifier_gpus = 0.4 if num_gpus == 1 else 1.0
    solvers = num_solvers or max(1, int((num_gpus - verifier_gpus) / solver_gpus))
    if solvers * solver_gpus + verifier_gpus > num_gpus + 1e-6:
        raise UserError(
            f"--solvers {solvers} x --solver-gpus {solver_gpus:g} and {verifier_gpus:g} for the verifier: "
            f"the cluster has {num_gpus:g} GPUs; ask for fewer"
        )
    return Placement(solvers, "cuda", solver_gpus, verifier_gpus, cpus, token_budget or GPU_TOKEN_BUDGET)


def place_judge(num_gpus: float, *, num_cpus: int | None = None) -> Placement:
    """A verifier with nobody beside it: one GPU, or all processors."""
    cpus = num_cpus or os.cpu_count() or 1
    if num_gpus == 0:
        return Placement(0, "cpu", 0, 0, cpus, CPU_TOKEN_BUDGET, verifier_threads=cpus)
    return Placement(0, "cuda", 0, min(1.0, num_gpus), cpus, GPU_TOKEN_BUDGET)
