"""One worker of a fleet: an actor from its start to its last replacement.

Owns: its seat, its calls, its deaths. Must not know: what it works on, what its actor is told at its start.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from engine.model_source import ModelError
from orchestrator.cluster.nodes import Home, end_process, has_place
from orchestrator.console.errors import FleetError, UserError
from orchestrator.fleet.under_way import UnderWay
from orchestrator.process.failures import StartError, reason

MAX_REPLACEMENTS = 3
"""Times one actor is started anew, nothing done in between, before it is given up. Assumption."""

LEASE_S = 600.0
"""Seconds an actor may take over one call before it is replaced. A slice is 2 s; an engine's first call compiles."""


@dataclass(eq=False)
class Worker:
    """An actor from its start to its last replacement, and the one call it has in flight.

    Attributes:
        start: begins the start of an actor of that name; Ray goes on with it when there is room.
        run_name: of the run; part of the actor's name.
        needs: what it takes of a node as long as it runs, as Ray names it; empty where any node will do.
        home: where it runs; None while it is starting.
        in_flight: the call that is under way, `home` itself while it is starting.
        blocks: where the prompts of that call's answer will lie, and its checkpoints.
        asked: when that call was made.
        num_replacements: times it was started anew.
        num_deaths: those deaths that were its own, since it last did something.
        has_loaded: it has loaded its model once, so that it can be loaded.
        leaves_since: when its node was seen to drain.
        is_in_doubt: its call failed for a reason that leaves open whether it lives.
        load: ids of what it judges.
        longest: what takes longest in its table.
    """

    name: str
    start: Callable[[str], Any]
    run_name: str
    needs: Mapping[str, float] = field(default_factory=dict)
    actor: Any = None
    home: Home | None = None
    in_flight: Any = None
    blocks: tuple[Any, ...] = ()
    asked: float = 0.0
    num_replacements: int = 0
    num_deaths: int = 0
    has_loaded: bool = False
    leaves_since: float | None = None
    is_in_doubt: bool = False
    load: list[str] = field(default_factory=list)
    longest: tuple[UnderWay, ...] = ()

    def __post_init__(self) -> None:
        self._start()

    @property
    def has_started(self) -> bool:
        """Whether it has told where it runs: its model is loaded."""
        return self.home is not None

    @property
    def is_ready(self) -> bool:
        """Whether it takes work."""
        return self.has_started and self.leaves_since is None

    @property
    def is_starting(self) -> bool:
        """Whether it has been asked for and has not told yet where it runs."""
        return not self.has_started and self.in_flight is not None

    @property
    def is_aside(self) -> bool:
        """Whether it has given its seat to another."""
        return self.actor is None

    @property
    def is_without_seat(self) -> bool:
        """Whether no node has had room for it yet."""
        return self.is_starting and not has_place(self.actor)

    @property
    def is_idle(self) -> bool:
        """Whether it would take work and has none."""
        return self.is_ready and self.in_flight is None

    @property
    def is_busy(self) -> bool:
        """Whether it is at work on a call."""
        return self.has_started and self.in_flight is not None

    @property
    def has_said_goodbye(self) -> bool:
        """Whether its last call was made in the knowledge that it leaves."""
        return self.leaves_since is not None and self.asked >= self.leaves_since

    @property
    def has_no_life_left(self) -> bool:
        """Whether one more death of its own is one too many."""
        return self.num_deaths >= MAX_REPLACEMENTS

    def ask(self, ref: Any, *blocks: Any) -> None:
        """The call that is in flight from here on, and the further values that it gives, where it does."""
        self.in_flight, self.blocks, self.asked = ref, blocks, time.monotonic()

    def await_start(self) -> None:
        """Wait until it has told where it runs.

        Raises:
            UserError, ModelError: it cannot load its model.
            RayError: it died, or could load its model before and cannot now.
        """
        if not self.has_started:
            try:
                self.settle_in(ray.get(self.in_flight))
            except RayError as error:
                raise self.refusal(error) from error

    def settle_in(self, home: Home) -> None:
        """It has loaded its model."""
        self.home, self.in_flight, self.has_loaded = home, None, True

    def refusal(self, error: RayError) -> Exception:
        """What its failure to start means: the user's mistake, or a death where it has been able to start before.

        A model that could be loaded and cannot now lacks the memory that its own last process still holds, perhaps.
        """
        mistake = users_mistake(error)
        return error if mistake is None or (self.has_loaded and isinstance(mistake, StartError)) else mistake

    def obituary(self, cause: Exception, *, is_own_fault: bool = True) -> str:
        """What a person is told when it was lost; to be asked before it is replaced."""
        when = "" if self.has_started else " while loading"
        if not is_own_fault:
            return f"{self.name} died{when} with its node; starting it anew"
        told = f"{self.name} died{when} ({reason(cause)})"
        if self.has_no_life_left:
            return told
        return f"{told}; starting it anew ({self.num_deaths + 2} of {MAX_REPLACEMENTS + 1})"

    def ask_again(self) -> None:
        """Ask whether it lives; the lease of the call that failed goes on."""
        self.in_flight, self.is_in_doubt = self.actor.home.remote(), True

    def is_overdue(self, lease_s: float) -> bool:
        """Whether its call has been in flight for longer than a lease; a start takes as long as it takes."""
        return self.is_busy and time.monotonic() - self.asked > lease_s

    def stop(self) -> None:
        """Give up on the actor, whatever it is doing."""
        ray.kill(self.actor)
        if self.home is not None:
            end_process(self.home)

    def stand_aside(self) -> None:
        """Give up the seat, until `start_again`."""
        self.stop()
        self.home = self.leaves_since = self.actor = self.in_flight = None
        self.blocks = ()

    def start_again(self) -> None:
        """Ask for a seat again."""
        self.num_replacements += 1
        self._start()

    def replace(self, cause: Exception, *, is_own_fault: bool = True) -> None:
        """Start the actor anew after it died or was stopped.

        Args:
            is_own_fault: whether it counts as a death; a node's does not.
        Raises:
            FleetError: it died too often.
        """
        if is_own_fault and self.has_no_life_left:
            raise FleetError(f"{self.name} died {self.num_deaths + 1} times, last: {reason(cause)}") from cause
        self.num_deaths += is_own_fault
        self.home = self.leaves_since = None
        self.is_in_doubt = False
        self.start_again()

    def _start(self) -> None:
        """Start under a name a person can read in the dashboard; a dead actor's name may still be taken."""
        self.longest = ()
        self.actor = self.start(f"{self.run_name}/{self.name}/{self.num_replacements}")
        self.ask(self.actor.load.remote())


def users_mistake(error: RayError) -> Exception | None:
    """The user's mistake that an actor's method failed with, if it was one."""
    if isinstance(error, RayTaskError):
        if isinstance(error.cause, RayError):  # an actor that was asked by an actor
            return users_mistake(error.cause)
        return error.cause if isinstance(error.cause, (UserError, ModelError)) else None
    return None
