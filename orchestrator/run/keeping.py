"""Checkpoints on their way into the folder: written by one task of Ray after another beside this process.

Owns: what the folder is to hold of attempts under way; that a row which has its result keeps no file. Must not know:
when a checkpoint is due, what it holds.

While a task is at work, what comes is gathered, a row's newer checkpoint in place of its older one. So a store that is
slow, or refuses for a while, keeps nobody waiting: it gets the newest of each row when its turn comes. What it refused
is told, and tried again with what comes next.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.nodes import only_on
from orchestrator.console.errors import FleetError, StorageError
from orchestrator.results.in_flight import FOLDER, MAX_BYTES, InFlight, file_of
from orchestrator.run.checkpoint_writer import Renewed, renew
from orchestrator.run.part_writer import Folder
from orchestrator.work.item import Kept

CLEARING_S = 5.0
"""For which a task is waited for whose work is worth nothing any more, before it is ended. Assumption."""

ENDING_S = 10.0
"""For its process to be gone. Assumption."""


class Keeping:
    """Keeps the checkpoints of one run folder.

    Attributes:
        in_flight: the folder, and what an earlier call left in it.
        on_failure: told why something could not be written or taken away, at every try.
        on_written: told the seconds and bytes of what was.
    """

    def __init__(
        self,
        in_flight: InFlight,
        on_failure: Callable[[Exception], None] = lambda _: None,
        on_written: Callable[[float, int], None] = lambda *_: None,
    ):
        self.in_flight, self.on_failure, self.on_written = in_flight, on_failure, on_written
        self._there = set(in_flight.left)
        self._gathered: dict[str, Kept] = {}
        self._dropped: set[str] = set()
        self._sent: tuple[dict[str, Kept], set[str]] = {}, set()
        self._is_due = False
        self._ref: Any = None

    @property
    def awaited(self) -> list[Any]:
        """The task at work."""
        return [] if self._ref is None else [self._ref]

    def keep(self, checkpoints: Mapping[int, Kept]) -> None:
        """Have checkpoints written by row, each in place of the one before."""
        kept = {file_of(row): state for row, state in checkpoints.items() if len(state) <= MAX_BYTES}
        self._gathered |= kept
        self._dropped -= kept.keys()
        self._is_due |= bool(kept)
        self.turn()

    def forget(self, rows: Iterable[int]) -> None:
        """Have the checkpoints of rows taken away that have their result."""
        for name in map(file_of, rows):
            self._gathered.pop(name, None)
            if name in self._there:
                self._dropped.add(name)
                self._is_due = True
        self.turn()

    def turn(self) -> None:
        """Take in what a task has done; have done what has come since."""
        if self._ref is not None and ray.wait([self._ref], timeout=0)[0]:
            self._take_in()
        if self._ref is None and self._is_due:
            self._send()

    def settle(self, seconds: float) -> None:
        """Wait for all that was asked, so long at most."""
        ends = time.monotonic() + seconds
        self._is_due = bool(self._gathered or self._dropped)
        self.turn()
        while self._ref is not None and (left := ends - time.monotonic()) > 0:
            ray.wait([self._ref], timeout=left)
            self.turn()

    def clear(self) -> None:
        """Drop everything: the run is finished."""
        if self._ref is not None and not ray.wait([self._ref], timeout=CLEARING_S)[0]:
            ray.cancel(self._ref, force=True)
            ray.wait([self._ref], timeout=ENDING_S)
        self._gathered, self._dropped, self._is_due, self._ref = {}, set(), False, None
        try:
            self.in_flight.storage.clear(FOLDER)
        except (OSError, StorageError) as error:
            self.on_failure(error)

    def _send(self) -> None:
        node = ray.get_runtime_context().get_node_id()
        task = renew.options(scheduling_strategy=only_on(node), name="renew")
        kept = {f"{FOLDER}/{name}": state for name, state in self._gathered.items()}
        dropped = [f"{FOLDER}/{name}" for name in self._dropped]
        self._ref = task.remote(Folder.of(self.in_flight.storage), kept, dropped)
        self._there |= self._gathered.keys()  # some may be there even where not all could be written
        self._sent = self._gathered, self._dropped
        self._gathered, self._dropped, self._is_due = {}, set(), False

    def _take_in(self) -> None:
        ref, self._ref = self._ref, None
        (kept, dropped), self._sent = self._sent, ({}, set())
        try:
            renewed: Renewed = ray.get(ref)
        except RayError as death:
            renewed = Renewed(refusal=death)
        if renewed.refusal is not None:
            self._gathered = {name: state for name, state in kept.items() if name not in self._dropped} | self._gathered
            self._dropped |= dropped - self._gathered.keys()
            self.on_failure(renewed.refusal)
            return
        self._there -= dropped
        self.on_written(renewed.seconds, renewed.num_bytes)
        if renewed.num_lost:
            self.on_failure(FleetError(f"{renewed.num_lost} of them were lost with their node"))
