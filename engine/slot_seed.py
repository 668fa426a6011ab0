"""The seed of a slot's random stream.

Owns: what it depends on. Must not know: what is drawn.
"""

import hashlib


def slot_seed(recipe_seed: int, target_id: str, attempt: int, sibling: int) -> int:
    """A seed of the slot's own: the same alone, in company, and on another machine."""
    name = f"{recipe_seed}/{attempt}/{sibling}/0/{target_id}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1
