"""A verifier on its own: asked batch by batch, started anew when it dies.

Owns: verdicts over many candidates outside a run's loop. Must not know: what the verdicts are for.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError

from orchestrator.fleet import workers
from orchestrator.fleet.verifier_actor import JUDGE_BATCH, EngineSpec
from orchestrator.sizing.placement import place_judge
from orchestrator.verifiers.contract import GREEDY, Candidate, Mode, Verdict


class Judge:
    """A decoding engine in an actor of its own; Ray must be connected.

    A batch whose engine died is judged again by the next one; nothing is concluded from it.

    Args:
        spec: the engine; its device is what the cluster has.
        name: how the dashboard shows it.
        say: told when the engine is replaced.
    """

    def __init__(self, spec: EngineSpec, name: str, say: Callable[[str], None] = lambda _: None):
        self._say = say
        placement = place_judge(ray.cluster_resources().get("GPU", 0))
        spec = replace(spec, device=placement.device)
        self._worker = workers.verifier_worker(f"{name}-{os.getpid()}", 0, spec, placement)

    @property
    def actor(self) -> Any:
        """The engine's actor; another one after a death."""
        return self._worker.actor

    def judge(
        self,
        candidates: list[Candidate],
        mode: Mode = GREEDY,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> list[Verdict]:
        """One verdict for each candidate, in order.

        Args:
            on_progress: told how many verdicts there are.
        Raises:
            UserError, ModelError: the engine cannot be had.
            FleetError: it died too often.
        """
        verdicts: list[Verdict] = []
        for first in range(0, len(candidates), JUDGE_BATCH):
            verdicts += self._judge_batch(candidates[first : first + JUDGE_BATCH], mode)
            on_progress(len(verdicts))
        return verdicts

    def _judge_batch(self, batch: list[Candidate], mode: Mode) -> list[Verdict]:
        while True:
            try:
                self._worker.await_start()
                return workers.get(self._worker.actor.judge.remote(batch, mode))
            except RayError as error:
                self._say(self._worker.obituary(error))
                self._worker.stop()
                self._worker.replace(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        ray.kill(self._worker.actor)
