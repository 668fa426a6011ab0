"""What earlier runs found to suit a model.

Owns: what it depends on, and its key. Must not know: how it is found, files.
"""

import hashlib
import json
from dataclasses import asdict

from engine.adaptation import AFFORDABLE, Adaptation
from engine.capacity import VectorPlan
from engine.recipe import Recipe
from engine.samples import LENGTHS
from orchestrator.measured.model_cache import read_cached, write_cached

DECIDES_NOTHING = {"end_of_text", "seed", "attempts", "growth", "margin_growth", "noise_factor", "population"}
"""Keys of a recipe that no race of an adaptation depends on."""


def cache_key(fingerprint: str, recipe: Recipe, plan: VectorPlan | None) -> str:
    """Model, vectors and everything in the recipe that decides what a text costs."""
    left = {key: value for key, value in recipe.canonical().items() if key not in DECIDES_NOTHING}
    rule = [left, LENGTHS, plan.points if plan else None, AFFORDABLE]
    digest = hashlib.blake2b(json.dumps(rule, sort_keys=True).encode(), digest_size=6).hexdigest()
    return f"{fingerprint}-adapted-{digest}"


def load_adaptation(key: str, seconds: float) -> Adaptation | None:
    """What was found before, or None; None too where it was left undecided in less than these `seconds`."""
    value = read_cached(key)
    try:
        found = None if value is None else Adaptation(**value)
    except TypeError:
        return None
    return None if found and not found.is_settled and found.seconds < seconds else found


def save_adaptation(key: str, found: Adaptation) -> None:
    """Keep it for the next run."""
    write_cached(key, asdict(found))
