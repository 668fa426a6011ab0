"""The verifier actor: one resident decoding engine behind one method.

Owns: the choice of engine. Must not know: the solver, the queue.
"""

import sys
from dataclasses import dataclass

import numpy as np
import ray

from engine.model_source import ModelSource
from orchestrator.cluster.nodes import Home, home
from orchestrator.fleet.blocks import present
from orchestrator.process.fail_points import fail_point
from orchestrator.process.failures import told_at_start
from orchestrator.verifiers.cache import PASS_POSITIONS, USUAL_CACHE, Cache
from orchestrator.verifiers.contract import GREEDY, SCORED, Candidate, Mode, Verdict, Verifier

ENGINES = ("vllm", "hf")

REFUSALS = {
    "vllm": ("vLLM", "judge with --engine hf"),
    "hf": ("transformers", "`verbatim doctor --model` says more about it"),
}
"""Of each engine: its name, and what to do where it cannot run a model."""

JUDGE_BATCH = 256
"""Most candidates of one call, so that progress is seen and a lost call costs little. Assumption."""


@dataclass(frozen=True)
class EngineSpec:
    """Which engine judges, on which model, in which numerics.

    Attributes:
        engine: one of `ENGINES`.
        model: as `--model` takes it; each machine looks for it on its own disk.
        dtype: numerics the engine decodes in.
        context: longest soft prompt and target together, in positions: the served length.
        memory_frac: share of its card that vLLM may ask for at its start.
        cache: vLLM's key-value cache.
    """

    engine: str
    model: str
    revision: str | None
    dtype: str
    context: int
    device: str = "cpu"
    memory_frac: float = 0.9
    cache: Cache = USUAL_CACHE


def make_verifier(spec: EngineSpec) -> Verifier:
    """Load the engine a spec asks for, in this process."""
    model = ModelSource(spec.model, spec.revision).path
    if spec.engine == "vllm":
        from orchestrator.verifiers.vllm_verifier import VllmVerifier

        return VllmVerifier(
            model,
            revision=spec.revision,
            dtype=spec.dtype,
            context=spec.context,
            memory_frac=spec.memory_frac,
            cache=spec.cache,
            pass_positions=PASS_POSITIONS if spec.device == "cuda" else None,
        )
    from orchestrator.verifiers.hf_verifier import HfVerifier

    return HfVerifier(model, revision=spec.revision, dtype=spec.dtype, context=spec.context, device=spec.device)


def start_verifier(spec: EngineSpec) -> Verifier:
    """Load an engine, in this process, and have it say something: what it cannot do shows here.

    Raises:
        UserError, ModelError: why it cannot be had.
    """
    name, remedy = REFUSALS[spec.engine]
    with told_at_start(f"--model {spec.model}: {name} cannot run it", remedy):
        fail_point("verifier.loads", spec.model)
        verifier = make_verifier(spec)
        start = [Candidate("start", np.zeros((1, verifier.hidden_size), np.float32), (0,))]
        verifier.judge(start)
        try:
            verifier.judge(start, SCORED)
        except Exception as error:  # whatever its code raises for a model whose prompts it decodes
            print(f"{name} scores no text of {spec.model}: {type(error).__name__}: {error}", file=sys.stderr)
            verifier.can_score = False
        return verifier


@ray.remote(max_restarts=0, max_task_retries=0)
class VerifierActor:
    """Holds a decoding engine; judges candidates in the order they come."""

    def __init__(self, spec: EngineSpec):
        self._spec = spec

    def load(self) -> Home:
        """Load the engine; where this runs.

        Not in the constructor: what that raises, Ray passes on as text.

        Raises:
            UserError, ModelError: why it cannot be had.
        """
        self._verifier = start_verifier(self._spec)
        return home()

    def home(self) -> Home:
        """Where this runs."""
        return home()

    def ready(self) -> str:
        """Name and version of the engine."""
        return self._verifier.engine

    def judge(self, candidates: list[Candidate], mode: Mode = GREEDY) -> list[Verdict]:
        """One verdict for each candidate, in order; none for one whose prompt is lost."""
        verdicts = self._verifier.judge(present(candidates), mode)
        fail_point("verifier.before_answer")
        return verdicts
