"""Parts on their way into the folder: written by tasks of Ray beside this process, committed by this process in order.

Owns: when a part is tried again, in which order parts count. Must not know: what rows say, when a part is due.

    rows, prompts elsewhere -> task `write` on this node: brings prompts, makes the part -> its name -> manifest line

A row is a result exactly when the line of its part is in the manifest. Until then its item is kept here: a task that
dies is asked for again under another name, what it left behind counts for nothing; a row whose prompt is lost is given
back to be solved again.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.nodes import only_on
from orchestrator.console.errors import FleetError, StorageError, Superseded
from orchestrator.process.fail_points import fail_point
from orchestrator.process.failures import reason
from orchestrator.results.ledger import Ledger, Row
from orchestrator.run.part_writer import Folder, Written, write
from orchestrator.storage.protocol import RESULTS
from orchestrator.work.item import Item

AT_ONCE = 2
"""Parts that are written at the same time: one waits for the disk while another is made."""

MOST_DEATHS = 3
"""Tasks that may die over one part."""

PATIENCE_S = 600.0
"""Seconds for which a store may refuse a part before the run ends. Assumption."""

LONGEST_PAUSE_S = 30.0
"""Between two tries at a store that refuses; the first pause is a second, each later one twice as long."""


@dataclass
class Part:
    """Rows that are to be committed together.

    Attributes:
        items: what the rows were made of.
        num_bytes: of their prompts.
        number: of the line that is to name it, or more where a part before it is given back.
        ref: of the task that writes it, while one does.
        name: once it is written.
        due: when it may be tried again.
        refused_since: when a store began to refuse it.
    """

    items: list[Item]
    rows: list[Row]
    num_bytes: int
    number: int
    ref: Any = None
    name: str | None = None
    due: float = 0.0
    num_deaths: int = 0
    pause_s: float = 1.0
    refused_since: float | None = None


@dataclass
class Writing:
    """Parts that are not committed yet.

    Attributes:
        ledger: gets their lines.
        on_refusal: told of each refusal of a store that is asked again.
        lost: items whose prompt is lost; for whoever solves them again to take.
        num_bytes: of the prompts in all parts.
        num_rows: in all parts.
    """

    ledger: Ledger
    on_refusal: Callable[[Exception], None] = lambda _: None
    lost: list[Item] = field(default_factory=list)
    num_bytes: int = 0
    num_rows: int = 0
    _parts: deque[Part] = field(default_factory=deque)

    @property
    def is_busy(self) -> bool:
        """Whether a part is not committed yet."""
        return bool(self._parts)

    @property
    def awaited(self) -> list[Any]:
        """References of the tasks that have not been seen to end."""
        return [part.ref for part in self._parts if part.ref is not None]

    def add(self, items: list[Item], rows: list[Row], num_bytes: int) -> None:
        """One more part, after those that are on their way."""
        fail_point("ledger.before_write")
        self._parts.append(Part(items, rows, num_bytes, self.ledger.next_number + len(self._parts)))
        self.num_bytes += num_bytes
        self.num_rows += len(rows)
        self._send()

    def commit(self, on_committed: Callable[[Part], None], *, is_patient: bool = True) -> None:
        """Take in what has been written, and put the lines of what is whole into the manifest.

        Args:
            on_committed: told of each part once its line is there.
            is_patient: whether a store that refuses is asked again.
        Raises:
            StorageError, OSError: a part cannot be written; of those on their way only what was written before it is
                committed.
            Superseded: another process commits to the folder.
        """
        try:
            try:
                self._take_in(is_patient)
            finally:
                self._commit(on_committed, is_patient)
            self._send(is_patient)
        except Exception:
            self._parts.clear()
            self.num_bytes = self.num_rows = 0
            raise

    def _send(self, is_patient: bool = True) -> None:
        node = ray.get_runtime_context().get_node_id()
        for part in self._parts:
            if len(self.awaited) >= AT_ONCE:
                return
            if part.ref is None and part.name is None and self._is_due(part, is_patient):
                task = write.options(scheduling_strategy=only_on(node), name="write")
                part.ref = task.remote(Folder.of(self.ledger.storage), part.number, part.rows)

    def _take_in(self, is_patient: bool) -> None:
        if not (awaited := self.awaited):
            return
        ended = set(ray.wait(awaited, num_returns=len(awaited), timeout=0)[0])
        for part in [part for part in self._parts if part.ref in ended]:
            ref, part.ref = part.ref, None
            try:
                written: Any = ray.get(ref)
            except RayError as death:
                self._count_death(part, death)
            else:
                self._settle(part, written, is_patient)

    def _settle(self, part: Part, written: Written, is_patient: bool) -> None:
        part.name = written.part
        if written.lost:
            self._give_back(part, set(written.lost))
        elif written.refusal is not None:
            self._refused(part, written.refusal, is_patient)

    def _count_death(self, part: Part, death: Exception) -> None:
        part.num_deaths += 1
        if part.num_deaths > MOST_DEATHS:
            raise FleetError(f"a part of the results cannot be written: {reason(death)}") from death
        self._wait(part)

    def _refused(self, part: Part, refusal: Exception, is_patient: bool) -> None:
        """A store may do it later; a disk that is full stays so until somebody makes room."""
        now = time.monotonic()
        part.refused_since = part.refused_since or now
        if isinstance(refusal, Superseded) or not isinstance(refusal, StorageError) or not is_patient:
            raise refusal
        if now - part.refused_since > PATIENCE_S:
            raise refusal
        self._wait(part)
        self.on_refusal(refusal)

    def _wait(self, part: Part) -> None:
        """Before the next try, each time longer."""
        part.due, part.pause_s = time.monotonic() + part.pause_s, min(LONGEST_PAUSE_S, 2 * part.pause_s)

    def _give_back(self, part: Part, lost: set[int]) -> None:
        self.lost += [item for i, item in enumerate(part.items) if i in lost]
        self.num_rows -= len(lost)
        part.items = [item for i, item in enumerate(part.items) if i not in lost]
        part.rows = [row for i, row in enumerate(part.rows) if i not in lost]
        if not part.rows:
            self._parts.remove(part)
            self.num_bytes -= part.num_bytes

    def _commit(self, on_committed: Callable[[Part], None], is_patient: bool) -> None:
        """Lines of the parts that are written, as far as all before them are."""
        while self._parts and (part := self._parts[0]).name is not None and self._is_due(part, is_patient):
            try:
                self._require_here(part.name)
                self.ledger.add(part.name, [row["id"] for row in part.rows])
            except StorageError as refusal:
                self._refused(part, refusal, is_patient)
                return
            self._parts.popleft()
            self.num_bytes -= part.num_bytes
            self.num_rows -= len(part.rows)
            on_committed(part)

    def _require_here(self, name: str) -> None:
        """Nothing is committed that this process does not find: who wrote it may have seen another folder or store."""
        storage = self.ledger.storage
        try:
            storage.open(f"{RESULTS}/{name}").close()
        except FileNotFoundError:
            raise FleetError(
                f"{storage.at(f'{RESULTS}/{name}')} was written by another process of this node and is not here: it "
                "sees another disk or store; give a folder that all of them see, or start Ray with what the store needs"
            ) from None
        except OSError as error:
            raise StorageError(f"{storage.at(RESULTS)}: {reason(error)}") from error

    @staticmethod
    def _is_due(part: Part, is_patient: bool) -> bool:
        return part.due <= time.monotonic() or not is_patient
