"""Checkpoints on their way into the folder: written by one task of Ray after another beside this process.

Owns: what the folder is to hold of attempts under way; that a row which has its result keeps no file. Must not know:
when a checkpoint is due, what it holds.

While a task is at work, what comes is gathered, a row's newer checkpoint in place of its older one. So a store that is
slow, or refuses for a while, keeps nobody waiting: it gets the newest of each row when its turn comes. What it refused
is told and not written again, since the next checkpoint follows.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.nodes import only_on
from orchestrator.console.errors import StorageError
from orchestrator.results.in_flight import FOLDER, MAX_BYTES, InFlight, file_of
from orchestrator.run.checkpoint_writer import Renewed, renew
from orchestrator.run.part_writer import Folder
from orchestrator.work.item import Kept

LAST_S = 20.0
"""For which the last task is waited for when a run ends."""


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
        self._dropping: set[str] = set()
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
        self.turn()

    def forget(self, rows: Iterable[int]) -> None:
        """Have the checkpoints of rows taken away that have their result."""
        for name in map(file_of, rows):
            self._gathered.pop(name, None)
            if name in self._there:
                self._dropped.add(name)
        self.turn()

    def turn(self) -> None:
        """Take in what a task has done; have done what has come since."""
        if self._ref is not None and ray.wait([self._ref], timeout=0)[0]:
            self._take_in()
        if self._ref is None and (self._gathered or self._dropped):
            self._send()

    def settle(self, seconds: float = LAST_S) -> None:
        """Wait for all that was asked, so long at most."""
        for _ in range(2):  # the task at work, and one with what was gathered meanwhile
            if self._ref is not None:
                ray.wait([self._ref], timeout=seconds / 2)
            self.turn()

    def clear(self) -> None:
        """Drop everything: the run is finished."""
        self._gathered.clear()
        self.settle()
        try:
            self.in_flight.storage.clear(FOLDER)
        except (OSError, StorageError) as error:
            self.on_failure(error)

    def _send(self) -> None:
        node = ray.get_runtime_context().get_node_id()
        task = renew.options(scheduling_strategy=only_on(node), name="renew")
        kept = {f"{FOLDER}/{name}": state for name, state in self._gathered.items()}
        self._there |= self._gathered.keys()  # some may be there even where not all could be written
        self._ref = task.remote(Folder.of(self.in_flight.storage), kept, [f"{FOLDER}/{name}" for name in self._dropped])
        self._gathered, self._dropping, self._dropped = {}, self._dropped, set()

    def _take_in(self) -> None:
        ref, self._ref = self._ref, None
        dropping, self._dropping = self._dropping, set()
        try:
            renewed: Renewed = ray.get(ref)
        except RayError as death:
            self.on_failure(death)
            return
        if renewed.refusal is not None:
            self.on_failure(renewed.refusal)
            return
        self._there -= dropping
        self.on_written(renewed.seconds, renewed.num_bytes)
