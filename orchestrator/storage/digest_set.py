"""A set of strings that remembers their digests alone: a million ids in 32 MiB, for corpora larger than memory.

Owns: the table. Must not know: what the strings are.

Two of n strings have one digest of 128 bits with a probability of about n^2 / 2^129: 1e-21 for a billion of them.
"""

import hashlib
from collections.abc import Iterable

DIGEST_BYTES = 16
FREE = bytes(DIGEST_BYTES)
"""A free place; no string is known to have this digest."""

FIRST_PLACES = 1024


class DigestSet:
    """Strings that were added, by digest: an open-addressing hash table in one block of memory, at most half full.

    Args:
        strings: added at once.
    """

    def __init__(self, strings: Iterable[str] = ()):
        self._table = bytearray(FIRST_PLACES * DIGEST_BYTES)
        self._num_places = FIRST_PLACES
        self._len = 0
        self.update(strings)

    def __len__(self) -> int:
        return self._len

    def __contains__(self, string: str) -> bool:
        digest = _digest(string)
        return self._at(self._place(digest)) == digest

    def add(self, string: str) -> None:
        if 2 * self._len >= self._num_places:
            self._grow()
        self._put(_digest(string))

    def update(self, strings: Iterable[str]) -> None:
        for string in strings:
            self.add(string)

    def _put(self, digest: bytes) -> None:
        place = self._place(digest)
        self._len += self._at(place) == FREE
        self._table[place : place + DIGEST_BYTES] = digest

    def _at(self, place: int) -> bytearray:
        return self._table[place : place + DIGEST_BYTES]

    def _place(self, digest: bytes) -> int:
        """Where a digest is, or the free place where it belongs, in bytes from the table's start."""
        number = int.from_bytes(digest[:8], "little")
        while self._at(place := number % self._num_places * DIGEST_BYTES) not in (digest, FREE):
            number += 1
        return place

    def _grow(self) -> None:
        old = self._table
        self._num_places *= 2
        self._table, self._len = bytearray(self._num_places * DIGEST_BYTES), 0
        for place in range(0, len(old), DIGEST_BYTES):
            if (digest := bytes(old[place : place + DIGEST_BYTES])) != FREE:
                self._put(digest)


def _digest(string: str) -> bytes:
    return hashlib.blake2b(string.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
