"""The seed of a slot's random stream.

Owns: what it depends on. Must not know: what is drawn.
"""

import hashlib


def slot_seed(recipe_seed: int, target_id: str, attempt: int, sibling: int, restart: int = 0) -> int:
    """A seed of the slot's own: the same alone, in company, and on another machine."""
    name = f"{recipe_seed}/{attempt}/{sibling}/{restart}/{target_id}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1
