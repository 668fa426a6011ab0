"""One run at a time in a folder of an object store.

Owns: the objects .lock/00000000.json ..., one a holder; the last one counts. Must not know: what is written.

A holder renews its object; that of a dead one runs out. Who comes next creates the object of the next number, and the
store lets one process alone do so. A lease spares two runs the same work and no more: clocks differ, and a holder may
sleep past its time. What keeps results right is the manifest.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from orchestrator.console.errors import StorageError, UserError
from orchestrator.storage.folder_lock import FILE as LOCK
from orchestrator.storage.protocol import Storage

LEASE_S = 30.0
"""Seconds without a renewal after which a holder has lost the folder. Renewed three times as often."""

LOOK_S = 1.0
"""Seconds between two looks at another's lease."""


class Shared(Storage, Protocol):
    """Storage that several machines see, and that creates a file for one of them alone."""

    def create(self, name: str, content: bytes) -> bool: ...


@dataclass(frozen=True)
class Lease:
    """What a holder says of itself.

    Attributes:
        token: of this call and no other.
        expires: seconds since 1970 by the holder's clock; 0 once it is given back.
    """

    holder: str
    token: str
    expires: float

    @classmethod
    def new(cls, lease_s: float) -> "Lease":
        return cls(f"process {os.getpid()} on {socket.gethostname()}", uuid.uuid4().hex, time.time() + lease_s)

    @property
    def left_s(self) -> float:
        return self.expires - time.time()

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()


@contextmanager
def hold(store: Shared, place: str, say: Callable[[str], None], lease_s: float) -> Iterator[None]:
    """Hold the folder. A lease that has not run out is watched until it does, or is renewed.

    Args:
        place: the folder's name, for messages.
    Raises:
        UserError: another process holds it, or the store creates what is there already.
    """
    name, mine = _take(store, place, say, lease_s)
    released = threading.Event()
    renewal = threading.Thread(target=_renew, args=(store, name, mine, lease_s, released), daemon=True)
    renewal.start()
    try:
        _require_refusal(store, place, name)
        yield
    finally:
        released.set()
        renewal.join()
        with suppress(StorageError):  # then it runs out by itself
            store.replace({name: replace(mine, expires=0.0).to_bytes()})


def _take(store: Shared, place: str, say: Callable[[str], None], lease_s: float) -> tuple[str, Lease]:
    """Create the lease of the next number once the last one is over."""
    seen: Lease | None = None
    while True:
        number, last = _last(store)
        if last is None or last.left_s <= 0:
            name, mine = _name(number + 1), Lease.new(lease_s)
            if store.create(name, mine.to_bytes()):
                return name, mine
            continue
        if seen is None:
            say(f"{place}: {last.holder} was writing there; seeing whether it still is, {last.left_s:.0f} s at most")
        elif last != seen:
            raise UserError(
                f"--out {place}: {last.holder} is writing there; wait for it, stop it, or choose another folder"
            )
        seen = last
        time.sleep(max(0.0, min(LOOK_S, last.left_s)))


def holder(store: Shared) -> str | None:
    """Who holds the folder; None if nobody does, or the last lease has run out."""
    _, last = _last(store)
    return last.holder if last is not None and last.left_s > 0 else None


def _last(store: Shared) -> tuple[int, Lease | None]:
    """The lease that counts, and its number; -1 where there is none."""
    if not (names := store.names(LOCK)):
        return -1, None
    last = max(names)
    content = store.read(f"{LOCK}/{last}")
    return int(last.removesuffix(".json")), Lease(**json.loads(content)) if content else None


def _require_refusal(store: Shared, place: str, name: str) -> None:
    """See for oneself that the store does not create a file a second time: some take the condition and ignore it."""
    if store.create(name, Lease.new(0).to_bytes()):
        raise UserError(
            f"--out {place}: this store overwrites where it was asked to create, so that two runs could not be kept "
            "apart; give a folder on a disk and copy it there afterwards"
        )


def _renew(store: Shared, name: str, mine: Lease, lease_s: float, released: threading.Event) -> None:
    while not released.wait(lease_s / 3):
        with suppress(StorageError):  # the next try may reach it, and if none does the lease runs out
            store.replace({name: replace(mine, expires=time.time() + lease_s).to_bytes()})


def _name(number: int) -> str:
    return f"{LOCK}/{number:08d}.json"
