"""Who works for a run: starting, ready, leaving, aside, let go.

Owns: each worker's place in its life, the size of the fleet. Must not know: the queue, what the work is.

    start -> ready -> (its node drains) leaving -> start elsewhere
      ^  |     |
      +--+-----+ (it died, hung or failed; its node went)      let go: died too often, or holds other weights
               |
               +-> aside: it has given its seat to another -> start
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from engine.fingerprint import are_comparable
from engine.model_source import ModelError
from orchestrator.cluster.nodes import Node, is_nodes_fault, nodes
from orchestrator.console.errors import FleetError, UserError
from orchestrator.fleet import workers
from orchestrator.fleet.answers import SolverInfo
from orchestrator.fleet.waited_for import Patience
from orchestrator.fleet.worker import Worker
from orchestrator.process.failures import reason

LOOK_INTERVAL_S = 2.0
"""Seconds between looks at the cluster's nodes: Google Cloud takes a spot machine 30 s after its notice."""


@dataclass(frozen=True)
class Loss:
    """A worker that was lost, and why.

    Attributes:
        is_own_fault: it was not its node's, so perhaps its texts'.
        is_last: it will not be started anew: it died too often.
    """

    worker: Worker
    cause: Exception
    is_own_fault: bool
    is_last: bool


@dataclass
class Roster:
    """The workers of a run.

    Attributes:
        hire: starts the solver of an index.
        hire_verifier: starts the verifier of an index.
        num_solvers, num_verifiers: at the beginning.
        has_room: how many solvers a cluster of these nodes holds, where the fleet grows with the cluster.
        has_room_for_verifiers: how many verifiers there may come to be, where they may become more.
        say: tells a person.
        fingerprint: of the weights that every solver must hold; None until the first is ready.
        on_loss: told before a worker is started anew or let go: what it held is to be taken back.
        solvers, verifiers: those not let go.
        info: what the first ready solver holds.
    """

    hire: Callable[[int], Worker]
    hire_verifier: Callable[[int], Worker]
    num_solvers: int
    say: Callable[[str], None]
    num_verifiers: int = 1
    has_room: Callable[[list[Node]], int] | None = None
    has_room_for_verifiers: Callable[[list[Node]], int] | None = None
    fingerprint: str | None = None
    on_loss: Callable[[Loss], None] = lambda _: None
    solvers: list[Worker] = field(default_factory=list)
    verifiers: list[Worker] = field(default_factory=list)
    info: SolverInfo | None = None
    _num_hired: int = 0
    _num_judges_hired: int = 0
    _looked: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        for _ in range(self.num_verifiers):
            self.add_verifier()
        self._hire(self.num_solvers)

    @property
    def ready(self) -> list[Worker]:
        """Solvers that take work."""
        return [solver for solver in self.solvers if solver.is_ready]

    @property
    def all(self) -> list[Worker]:
        """Solvers and verifiers."""
        return [*self.solvers, *self.verifiers]

    @property
    def calls(self) -> dict[Any, Worker]:
        """Who is awaited, by reference: calls in flight and actors that are starting."""
        return {worker.in_flight: worker for worker in self.all if worker.in_flight is not None}

    def first_ready(self) -> SolverInfo:
        """Wait for a solver and a verifier; what the solver holds.

        Raises:
            UserError, ModelError: no solver, or no verifier, can be had, and it is the user's to mend.
            FleetError: they died too often.
        """
        patience = Patience(self.say)
        while missing := [kind for kind in (self.solvers, self.verifiers) if not _started(kind)]:
            for worker in (worker for kind in missing for worker in kind if worker.is_aside):
                worker.start_again()
            calls = {ref: worker for ref, worker in self.calls.items() if not worker.has_started}
            done, _ = ray.wait(list(calls), num_returns=1, timeout=LOOK_INTERVAL_S)
            for ref in done:
                self.take_in(calls[ref])
            self.look_around()
            patience.look([worker for kind in missing for worker in kind if worker.is_starting])
        assert self.info is not None
        return self.info

    def take_in(self, worker: Worker) -> None:
        """A worker that was starting has answered: it is ready, or is started again, or let go."""
        is_first = not (worker.num_replacements or _started(self.verifiers if self._judges(worker) else self.solvers))
        began = worker.asked
        try:
            worker.await_start()
            if not self._judges(worker):
                self._require_same_model(workers.get(worker.actor.describe.remote()))
            if is_first:
                self.say(f"{worker.name} ready after {time.monotonic() - began:.1f} s")
        except RayError as death:
            self.replace(worker, death)
        except (UserError, ModelError) as refusal:
            worker.stop()
            self._let_go(worker, refusal)

    def replace(self, worker: Worker, cause: Exception) -> None:
        """A worker died, failed or hangs: start it anew, or let it go if it did so too often.

        Raises:
            FleetError: nobody is left to do its work.
        """
        is_own_fault = not is_nodes_fault(cause, worker.home)
        self.on_loss(Loss(worker, cause, is_own_fault, is_last=is_own_fault and worker.has_no_life_left))
        self.say(worker.obituary(cause, is_own_fault=is_own_fault))
        if not isinstance(cause, ActorDiedError):
            worker.stop()
        try:
            worker.replace(cause, is_own_fault=is_own_fault)
        except FleetError as error:
            self._let_go(worker, error)

    def move(self, worker: Worker) -> None:
        """Start a worker elsewhere, that has nothing left to do where it is."""
        worker.stop()
        worker.replace(TimeoutError("its node is being drained"), is_own_fault=False)

    def look_around(self) -> None:
        """Every so often: see which nodes are about to go, and whether there is room for more solvers."""
        now = time.monotonic()
        if now - self._looked < LOOK_INTERVAL_S:
            return
        self._looked = now
        up = nodes()
        draining = {node.id for node in up if node.is_draining}
        for worker in self.all:
            if worker.is_ready and worker.home is not None and worker.home.node_id in draining:
                worker.leaves_since = now
                self.say(f"{worker.name} leaves: its node is being drained")
        staying = [node for node in up if not node.is_draining]
        added = len(self.verifiers) - self.num_verifiers
        if self.has_room is not None and (room := self.has_room(staying) - max(0, added)) > self._num_hired:
            self.say(f"the cluster has grown: {room} solvers")
            self._hire(room)

    @property
    def may_add_verifier(self) -> bool:
        """Whether there may be one more verifier on the nodes that are up."""
        if self.has_room_for_verifiers is None:
            return False
        return self.has_room_for_verifiers([node for node in nodes() if not node.is_draining]) > len(self.verifiers)

    def add_verifier(self) -> None:
        """Begin to start one more verifier."""
        self.verifiers.append(self.hire_verifier(self._num_judges_hired))
        self._num_judges_hired += 1

    def dismiss(self, verifier: Worker) -> None:
        """One verifier less; there are others."""
        assert len(self.verifiers) > 1, f"{verifier.name} is the only one"
        self.verifiers.remove(verifier)

    def ask(self, call: Callable[[Any], Any]) -> Any:
        """A solver's answer to `call(actor)`; another one's if that dies over it."""
        return self._ask(self.solvers, call)

    def ask_verifier(self, call: Callable[[Any], Any]) -> Any:
        """A verifier's answer to `call(actor)`, another one's or its successor's if it dies over it."""
        return self._ask(self.verifiers, call)

    def _ask(self, kind: list[Worker], call: Callable[[Any], Any]) -> Any:
        while True:
            if not _started(kind):
                self.first_ready()
            worker = _started(kind)[0]
            try:
                return workers.get(call(worker.actor))
            except RayError as error:
                self.replace(worker, error)

    def _hire(self, up_to: int) -> None:
        self.solvers += [self.hire(index) for index in range(self._num_hired, up_to)]
        self._num_hired = up_to

    def _require_same_model(self, info: SolverInfo) -> None:
        if self.fingerprint is not None and not are_comparable(self.fingerprint, info.fingerprint):
            self.say("the folder's fingerprint of the model is of another version: that it is the same is not checked")
        elif self.fingerprint not in (None, info.fingerprint):
            raise UserError(
                f"the model's weights differ ({self.fingerprint} and {info.fingerprint}): the folder or another solver "
                "holds other weights of that name or dtype; pin --revision, or choose another --out"
            )
        self.fingerprint = info.fingerprint
        self.info = self.info or info

    def _let_go(self, worker: Worker, why: Exception) -> None:
        """Go on without a worker, as long as somebody else can do its work."""
        kind = self.verifiers if self._judges(worker) else self.solvers
        if kind == [worker]:
            raise why
        kind.remove(worker)
        self.say(f"{worker.name} is let go: {reason(why)}")

    def _judges(self, worker: Worker) -> bool:
        return worker in self.verifiers


def _started(kind: list[Worker]) -> list[Worker]:
    return [worker for worker in kind if worker.has_started]
